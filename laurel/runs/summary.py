"""A run in a few lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from laurel.metrics import Metric

if TYPE_CHECKING:
    from rich.table import Table

    from laurel.runs.reading import RunReader


@dataclass(frozen=True)
class Summary:
    """Labelled lines; `str` gives plain text, rich draws a grid."""

    lines: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        width = max(len(label) for label, _ in self.lines)
        return "\n".join(f"{label:<{width}}  {text}" for label, text in self.lines)

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for label, text in self.lines:
            table.add_row(Text(label, style="bold"), Text(text))
        return table


def summarise(run: RunReader) -> Summary:
    """Steps, reward, length and evaluations at both ends, failures, events, where it is, and what to do next."""
    status, steps = run.status, run.steps()
    state = status.state + (f": {status.reason}" if status.reason else "")
    lines = [("run", str(run.directory)), ("status", state), ("steps", _extent(steps))]
    if steps:
        lines += _change(run, "reward", "reward", steps)
        lines += _change(run, "length", "answer_tokens", steps)
        lines += _ordered(run, steps)
    names = sorted({evaluation.name for evaluation in run.evaluations()})
    for name in names:
        course = [evaluation.metric for evaluation in run.evaluations() if evaluation.name == name]
        lines.append((name, _from_to(course[0], course[-1], "tasks")))
    lines += _left_out(run)
    failed, drawn = run.failures()
    if drawn:
        lines.append(
            ("failures", f"{failed} of {drawn} rollouts" + (" (no zero: they taught nothing)" if failed else ""))
        )
    failed, drawn = run.evaluation_failures()
    if failed:
        lines.append(("failed answers", f"{failed} of {drawn} in evaluations (they are in no mean)"))
    kinds = [event.kind for event in run.events()]
    if kinds:
        lines.append(("events", ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))))
    lines += [("alarm", f"after step {event.step}: {event.text}") for event in run.events("alarm")]
    saved = run.checkpoint_steps
    lines.append(("checkpoints", f"after step {', '.join(map(str, saved))}" if saved else "none yet"))
    lines.append(("next", _next(status.state, run)))
    return Summary(tuple(lines))


def _ordered(run: RunReader, steps: list[int]) -> list[tuple[str, str]]:
    """How many of a step's pairs the policy held the right way round when it saw them, where it learns from pairs.

    A method that judges answers one by one (its estimate of a divergence is among the metrics) has answers for pairs.
    """
    course = dict(run.metric("preference/accuracy"))
    if steps[0] not in course or steps[-1] not in course:
        return []
    change = f"{_mean(course[steps[0]])} -> {_mean(course[steps[-1]])}"
    if run.metric("preference/divergence"):
        return [("answers", f"{change}  (of each step's, on the right side of the divergence)")]
    return [("pairs", f"{change}  (of each step's, the right way round)")]


def _left_out(run: RunReader) -> list[tuple[str, str]]:
    """Rows that could not be used, where some were left out of the tasks or of the held-out ones."""
    lines = []
    for name in ("tasks", "held_out"):
        described = run.configuration.get(name)
        counts = described.get("left_out") if isinstance(described, dict) else None
        if counts:
            told = ", ".join(f"{fault}: {count}" for fault, count in counts.items())
            lines.append(("rows left out" if name == "tasks" else "held-out rows left out", told))
    return lines


def _extent(steps: list[int]) -> str:
    return f"{len(steps)} ({steps[0]} to {steps[-1]})" if steps else "none yet"


def _change(run: RunReader, label: str, name: str, steps: list[int]) -> list[tuple[str, str]]:
    # The recorded metric counts every rollout that was drawn; the trees that were learned from are a selection.
    course = dict(run.metric(name))
    before, after = (course.get(step, Metric(0.0, 0.0)) for step in (steps[0], steps[-1]))
    return [(label, _from_to(before, after, "rollouts"))] if before.count or after.count else []


def _from_to(before: Metric, after: Metric, unit: str) -> str:
    return f"{_mean(before)} -> {_mean(after)}  (means of {before.count:g} and {after.count:g} {unit})"


def _mean(metric: Metric) -> str:
    return f"{metric.mean:.3f}" if np.isfinite(metric.mean) else "none"


def _next(state: str, run: RunReader) -> str:
    directory = run.directory
    match state:
        case "running":
            return f"laurel show {directory}, while it runs"
        case "finished" if (directory / "model").is_dir():  # a reward model
            return f"laurel train RECIPE reward={directory}"
        case "finished":
            return f"laurel export {directory} MODEL_DIRECTORY"
        case "failed":
            return "remove the cause, then train again with --resume: nothing recorded is lost"
        case _:
            return "train again with --resume: it goes on as if nothing had happened"
