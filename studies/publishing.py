"""Where the results of a study go: numbers as JSON and a picture as SVG, side by side in `studies/results`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laurel.picture import Panel, draw

RESULTS = Path(__file__).parent / "results"


def publish(
    name: str, title: str, numbers: Mapping[str, Any], panels: Sequence[Panel], *, columns: int | None = None
) -> None:
    """Write `results/NAME.json` and `results/NAME.svg`, its panels in rows of `columns`, and say so."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n")
    (RESULTS / f"{name}.svg").write_text(draw(title, panels, columns=columns))
    print(f"written: studies/results/{name}.json and .svg")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, each as wide as its widest entry."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)
    )
