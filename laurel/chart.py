"""A learning curve as text, for terminals and reports."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"


def curve(
    points: Sequence[tuple[float, float]], *, width: int = 60, height: int = 8, low: float | None = None,
    high: float | None = None, label: str = "",
) -> str:  # fmt: skip
    """Draw (x, y) points as columns of block characters with the range of y at the left and of x below.

    Points that share a column are averaged; a column without a point repeats the one before it. Values that are not
    finite are left out.
    """
    points = [(x, y) for x, y in points if math.isfinite(y)]
    if not points:
        return f"{label}: nothing measured"
    first, last = points[0][0], points[-1][0]
    width = min(width, max(len(points), 2))
    columns: list[list[float]] = [[] for _ in range(width)]
    for x, y in points:
        place = 0 if last == first else round((x - first) / (last - first) * (width - 1))
        columns[place].append(y)
    values: list[float] = []
    for column in columns:
        values.append(sum(column) / len(column) if column else values[-1])
    bottom = min(values) if low is None else low
    top = max(values) if high is None else high
    span = (top - bottom) or 1.0
    levels = [max(0.0, min(1.0, (value - bottom) / span)) * height * 8 for value in values]
    rows = []
    for row in reversed(range(height)):
        cells = "".join(_BLOCKS[int(max(0, min(8, round(level - row * 8))))] for level in levels)
        mark = f"{top:8.3g}" if row == height - 1 else f"{bottom:8.3g}" if row == 0 else " " * 8
        rows.append(f"{mark} │{cells}")
    start, end = f"{first:g}", f"{last:g}"
    axis = " " * 10 + start + " " * max(1, width - len(start) - len(end)) + end
    return "\n".join([*([f"{' ' * 10}{label}"] if label else []), *rows, axis])
