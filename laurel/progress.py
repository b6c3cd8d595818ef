"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from laurel.evaluation import Evaluation
from laurel.metrics import Metric

PLAIN_SECONDS_BETWEEN_LINES = 5.0


class ProgressView(Protocol):
    """Is told what happens in a run. `of` is entered around the loop."""

    def of(self, title: str, steps: int) -> AbstractContextManager[object]:
        """What is entered around the loop of a run.

        Args:
            title: of the run: the name of its algorithm.
            steps: how many it has in all; a resumed run begins with a later one.
        """
        ...

    def step(self, step: int, metrics: Mapping[str, Metric], timings: Mapping[str, float]) -> None:
        """A step is done and recorded; `metrics` and `timings` (in seconds) are what the run keeps of it."""
        ...

    def evaluated(self, step: int, evaluation: Evaluation) -> None:
        """The held-out tasks were judged after a step; 0 is before the first."""
        ...

    def told(self, text: str) -> None:
        """Something that whoever starts a run should know: before it begins, or where the collapse alarm sounds."""
        ...


class Silent:
    """Shows nothing."""

    def of(self, title: str, steps: int) -> AbstractContextManager[object]:
        """See `ProgressView`."""
        return nullcontext()

    def step(self, step: int, metrics: Mapping[str, Metric], timings: Mapping[str, float]) -> None:
        """See `ProgressView`."""
        ...

    def evaluated(self, step: int, evaluation: Evaluation) -> None:
        """See `ProgressView`."""
        ...

    def told(self, text: str) -> None:
        """See `ProgressView`."""
        ...


class Terminal:
    """A bar with the time left over a line with reward, answer length, entropy and tokens per second.

    Where nobody watches, plain lines, one every few seconds.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
        )
        self._live: Live | None = None
        self._status = "starting"
        self._steps = 0
        self._started = self._last_line = 0.0
        self._first_step: int | None = None

    def of(self, title: str, steps: int) -> Self:
        """See `ProgressView`. One terminal may show several runs, one after the other."""
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._steps, self._first_step, self._status = steps, None, "starting"
        self._started, self._last_line = time.monotonic(), 0.0
        if self.console.is_terminal:
            self._bar.add_task(title, total=steps)
            self._live = Live(console=self.console, get_renderable=self._drawn)
        else:
            self._line(f"{title}: {steps} steps")
        return self

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def step(self, step: int, metrics: Mapping[str, Metric], timings: Mapping[str, float]) -> None:
        """See `ProgressView`: the bar moves; plain lines come every few seconds, and after the last step."""
        self._status = status_line(metrics, timings)
        now = time.monotonic()
        if self._first_step is None:
            self._first_step = step - 1
            for task in self._bar.task_ids:  # a resumed run must not take the steps before it for speed
                self._bar.reset(task, completed=step - 1)
        for task in self._bar.task_ids:
            self._bar.update(task, completed=step)
        if self._live is None and (now - self._last_line > PLAIN_SECONDS_BETWEEN_LINES or step == self._steps):
            self._last_line = now
            left = (now - self._started) / (step - self._first_step) * (self._steps - step)
            self._line(f"  step {step}/{self._steps}  {self._status}  {timedelta(seconds=round(left))} left")

    def evaluated(self, step: int, evaluation: Evaluation) -> None:
        """See `ProgressView`: one line, which stays."""
        self._line(f"  after step {step}: {evaluation}")

    def told(self, text: str) -> None:
        """See `ProgressView`: one line."""
        self._line(text)

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _drawn(self) -> Group:
        return Group(self._bar.get_renderable(), Text(f"  {self._status}", no_wrap=True, overflow="ellipsis"))


def status_line(metrics: Mapping[str, Metric], timings: Mapping[str, float]) -> str:
    """The numbers that tell whether a run is healthy, in one line; a part that was not measured is left out."""
    parts = []
    shown = (
        ("reward", "reward", 3),
        ("preference/accuracy", "accuracy", 3),
        ("reward_model/loss", "loss", 3),
        ("reward_model/accuracy", "accuracy", 3),
        ("answer_tokens", "length", 1),
        ("entropy", "entropy", 3),
    )
    for name, label, digits in shown:
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
