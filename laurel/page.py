"""Text for people: printed by `print`, it is plain; printed by a rich console, it is styled and fits its width."""

from __future__ import annotations

import io
from dataclasses import dataclass

from rich.console import Console, RenderableType

PLAIN_WIDTH = 100


@dataclass(frozen=True)
class Page:
    """What a command shows; in Python, `print(laurel.explain(...))`."""

    body: RenderableType

    def __rich__(self) -> RenderableType:
        return self.body

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=PLAIN_WIDTH, force_terminal=False, color_system=None)
        with console.capture() as captured:
            console.print(self.body, highlight=False)
        return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())
