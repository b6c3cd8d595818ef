"""Line charts as SVG text, without a drawing library: panels in rows, axes with round numbers, bands, marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#e08e0b", "#6a4c93", "#4d4d4d")
WIDTH, HEIGHT = 380, 250
"""Of the area of one panel that data are drawn in."""
LEFT, RIGHT, TOP, BOTTOM, LINE = 70, 16, 46, 44, 16


@dataclass(frozen=True)
class Line:
    """One series of a panel.

    Attributes:
        label: in the legend; empty for none.
        x, y: as many numbers each; a y that is not finite leaves a gap.
        low, high: the band around y, or None.
        colour: index into `COLOURS`.
        dashed: for what is a bound or a target rather than a measurement.
        marked: a dot at every point.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    colour: int = 0
    dashed: bool = False
    marked: bool = False


@dataclass(frozen=True)
class Panel:
    """One chart: a title, two named axes, lines. Logarithmic axes leave out what is not above 0."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    y_range: tuple[float, float] | None = None


def draw(title: str, panels: Sequence[Panel], *, columns: int | None = None) -> str:
    """The panels as an SVG document, in rows of `columns`; None: all in one row.

    Raises:
        ValueError: if a panel holds no finite point.
    """
    columns = columns or len(panels)
    legends = [[line for line in panel.lines if line.label] for panel in panels]
    below = BOTTOM + LINE * max(map(len, legends)) + 8
    across, down = LEFT + WIDTH + RIGHT, TOP + HEIGHT + below
    wide, high = columns * across, math.ceil(len(panels) / columns) * down
    body = [f'<rect width="{wide}" height="{high}" fill="white"/>', _text(wide / 2, 18, title, size=15, bold=True)]
    for place, panel in enumerate(panels):
        parts = "\n".join(_panel(panel))
        x, y = place % columns * across + LEFT, place // columns * down + TOP
        body.append(f'<g transform="translate({x},{y})">\n{parts}\n</g>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}"'
    return f'{head} font-family="Helvetica, Arial, sans-serif">\n' + "\n".join(body) + "\n</svg>\n"


def ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Round numbers within the range: powers of ten where it is logarithmic, else about five multiples of 1, 2 or 5."""
    if log:
        powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
        return [10.0**power for power in powers]
    rough = (high - low) / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [step * count for count in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    log: bool
    length: float

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (value - low) / (high - low) * self.length

    def shows(self, value: float) -> bool:
        return math.isfinite(value) and (value > 0 or not self.log)


def _scale(values: Sequence[float], log: bool, length: float, chosen: tuple[float, float] | None) -> _Scale:
    shown = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not shown:
        raise ValueError("A panel needs at least one finite point.")
    low, high = chosen or (min(shown), max(shown))
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
    if chosen is None and not log:
        low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
    return _Scale(low, high, log, length)


def _panel(panel: Panel) -> list[str]:
    across = _scale([x for line in panel.lines for x in line.x], panel.log_x, WIDTH, None)
    heights = [v for line in panel.lines for part in (line.y, line.low or (), line.high or ()) for v in part]
    up = _scale(heights, panel.log_y, HEIGHT, panel.y_range)
    parts = [_text(WIDTH / 2, -10, panel.title, size=13), _text(WIDTH / 2, HEIGHT + 34, panel.x)]
    parts.append(_text(-56, HEIGHT / 2, panel.y, turned=True))
    for value in ticks(across.low, across.high, log=panel.log_x):
        parts += [
            _rule(across(value), 0, across(value), HEIGHT),
            _text(across(value), HEIGHT + 16, _number(value), size=11),
        ]
    for value in ticks(up.low, up.high, log=panel.log_y):
        y = HEIGHT - up(value)
        parts += [_rule(0, y, WIDTH, y), _text(-6, y + 4, _number(value), size=11, anchor="end")]
    parts.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>')
    for line in panel.lines:
        parts += _drawn(line, across, up)
    for place, line in enumerate(line for line in panel.lines if line.label):
        y = HEIGHT + BOTTOM + LINE * place + 8
        parts += [_stroke(f"M0,{y - 4} L24,{y - 4}", line), _text(30, y, line.label, anchor="start")]
    return parts


def _drawn(line: Line, across: _Scale, up: _Scale) -> list[str]:
    def point(x: float, y: float) -> str:
        return f"{across(x):.1f},{HEIGHT - min(max(up(y), 0.0), HEIGHT):.1f}"

    seen = [i for i, (x, y) in enumerate(zip(line.x, line.y, strict=True)) if across.shows(x) and up.shows(y)]
    parts = []
    if line.low is not None and line.high is not None:
        edge = [i for i in seen if up.shows(line.low[i]) and up.shows(line.high[i])]
        corners = [point(line.x[i], line.high[i]) for i in edge] + [point(line.x[i], line.low[i]) for i in edge[::-1]]
        parts.append(f'<polygon points="{" ".join(corners)}" fill="{COLOURS[line.colour]}" opacity="0.18"/>')
    path = "".join(
        f"{'L' if place and seen[place - 1] == i - 1 else 'M'}{point(line.x[i], line.y[i])} "
        for place, i in enumerate(seen)
    )
    parts.append(_stroke(path, line))
    if line.marked:
        spots = (point(line.x[i], line.y[i]).split(",") for i in seen)
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{COLOURS[line.colour]}"/>' for x, y in spots]
    return parts


def _stroke(path: str, line: Line) -> str:
    dash = ' stroke-dasharray="6 4"' if line.dashed else ""
    return f'<path d="{path}" fill="none" stroke="{COLOURS[line.colour]}" stroke-width="2"{dash}/>'


def _rule(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<path d="M{x:.1f},{y:.1f} L{to_x:.1f},{to_y:.1f}" stroke="#e4e4e4"/>'


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "middle", bold: bool = False, turned: bool = False
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{weight}{turn}>{escape(text)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"
