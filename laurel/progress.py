"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from laurel.evaluation import Evaluation
from laurel.metrics import Metric

PLAIN_SECONDS_BETWEEN_LINES = 5.0


class ProgressView(Protocol):
    """Is told what happens in a run. `of` is entered around the loop."""

    def of(self, title: str, steps: int) -> AbstractContextManager[object]: ...

    def step(self, step: int, metrics: Mapping[str, Metric], timings: Mapping[str, float]) -> None: ...

    def evaluated(self, step: int, evaluation: Evaluation) -> None: ...


class Silent:
    """Shows nothing."""

    def of(self, title: str, steps: int) -> AbstractContextManager[object]:
        return nullcontext()

    def step(self, step: int, metrics: Mapping[str, Metric], timings: Mapping[str, float]) -> None: ...

    def evaluated(self, step: int, evaluation: Evaluation) -> None: ...


class Terminal:
    """A bar with reward, answer length, entropy, tokens per second and time left; plain lines where nobody watches."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._steps = 0
        self._started = self._last_line = 0.0
        self._first_step: int | None = None

    def of(self, title: str, steps: int) -> Self:
        self._steps = steps
        self._first_step = None
        self._started = time.monotonic()
        if self.console.is_terminal:
            columns = (
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
            )
            self._bar = Progress(*columns, console=self.console)
            self._task = self._bar.add_task(title, total=steps, status="starting")
        else:
            self.console.print(f"{title}: {steps} steps")
        return self

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def step(self, step: int, metrics: Mapping[str, Metric], timings: Mapping[str, float]) -> None:
        status = status_line(metrics, timings)
        now = time.monotonic()
        if self._first_step is None:
            self._first_step = step - 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, status=status)
        elif now - self._last_line > PLAIN_SECONDS_BETWEEN_LINES or step == self._steps:
            self._last_line = now
            left = (now - self._started) / (step - self._first_step) * (self._steps - step)
            self.console.print(f"  step {step}/{self._steps}  {status}  {left:.0f} s left", highlight=False)

    def evaluated(self, step: int, evaluation: Evaluation) -> None:
        self.console.print(f"  after step {step}: {evaluation}", highlight=False)


def status_line(metrics: Mapping[str, Metric], timings: Mapping[str, float]) -> str:
    """The numbers that tell whether a run is healthy, in one line; a part that was not measured is left out."""
    parts = []
    for name, label, digits in (("reward", "reward", 3), ("answer_tokens", "length", 1), ("entropy", "entropy", 3)):
        metric = metrics.get(name)
        if metric is not None and metric.count:
            parts.append(f"{label} {metric.mean:.{digits}f}")
    failed = metrics.get("failed")
    if failed is not None and failed.sum:
        parts.append(f"{failed.sum:.0f} failed")
    seconds = sum(timings.values())
    tokens = metrics.get("distinct_tokens")
    if tokens is not None and seconds > 0:
        parts.append(f"{tokens.sum / seconds:,.0f} tok/s")
    return "  ".join(parts)
