"""What the runs of `studies.learning` say together: numbers, a table in Markdown, curves."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from laurel.algorithms import METHODS
from laurel.picture import COLOURS, Line, Panel
from studies.intervals import bootstrap_interval, interquartile_mean, stratified_interval
from studies.learned import Learned
from studies.learning_methods import CONTROLS, FAMILIES, Family, family_of, left_out, settings_of
from studies.learning_tasks import LearningTask, learning_tasks
from studies.publishing import RESULTS, publish

Results = Mapping[tuple[str, str], Sequence[Learned]]
"""By method and task, in the order of their seeds."""


def by_cell(results: Sequence[Learned]) -> Results:
    """Method and task to the runs of all seeds."""
    cells: dict[tuple[str, str], list[Learned]] = {}
    for learned in sorted(results, key=lambda one: one.seed):
        cells.setdefault((learned.method, learned.task), []).append(learned)
    return cells


def cell_numbers(runs: Sequence[Learned], task: LearningTask) -> dict[str, Any]:
    """What the seeds of one method on one task say.

    `steps_to_solve` is the median over the seeds that solved it of the first evaluation at or above the threshold.
    """
    last = [run.returns[-1] for run in runs]
    low, high = bootstrap_interval(last)
    solved = [run for run in runs if run.returns[-1] >= task.solved]
    reached = [next(s for s, r in zip(run.steps, run.returns, strict=True) if r >= task.solved) for run in solved]
    return {
        "seeds": len(runs),
        "interquartile_mean": interquartile_mean(last),
        "interval": [low, high],
        "final_returns": last,
        "training_returns": [run.training_return for run in runs],
        "solved": len(solved),
        "steps_to_solve": float(np.median(reached)) if reached else None,
        "sampled_tokens_per_step": float(np.mean([run.sampled_tokens for run in runs])),
        "learner_tokens_per_step": float(np.mean([run.learner_tokens for run in runs])),
        "processor_seconds_per_step": float(np.median([run.seconds for run in runs])),
    }


def method_numbers(name: str, cells: Results) -> dict[str, Any]:
    """Every task of one method, and both together as fractions of their optima where both were run."""
    tasks = learning_tasks()
    found: dict[str, Any] = {
        "settings": {task: settings_of(name, tasks[task].longest) for task in tasks},
        "tasks": {task: cell_numbers(cells[name, task], tasks[task]) for task in tasks if (name, task) in cells},
    }
    if len(found["tasks"]) == len(tasks):
        scores = [[run.returns[-1] / tasks[task].optimum for run in cells[name, task]] for task in tasks]
        low, high = stratified_interval(scores)
        found["together"] = {"interquartile_mean": interquartile_mean(np.concatenate(scores)), "interval": [low, high]}
    return found


def report(results: Sequence[Learned], lacking: int, folder: Path = RESULTS) -> None:
    """Write the numbers, the table and the picture, and print the table."""
    if not results:
        raise SystemExit("Nothing has run yet.")
    cells = by_cell(results)
    names = [name for name in (*METHODS, *CONTROLS) if any(name == method for method, _ in cells)]
    numbers = {
        "lacking_runs": lacking,
        "tasks": {
            name: {"title": task.title, "optimum": task.optimum, "solved": task.solved, "steps": task.steps}
            for name, task in learning_tasks().items()
        },
        "versions": [dict(one) for one in sorted({tuple(sorted(run.versions.items())) for run in results})],
        "processor": platform.processor() or platform.machine(),
        "methods": {name: method_numbers(name, cells) for name in names},
        "left_out": left_out(),
        "runs": [asdict(run) for run in results],
    }
    publish("learning", "Held-out return while learning (interquartile mean of the seeds, 95 % interval)",
            numbers, panels(cells), columns=len(FAMILIES))  # fmt: skip
    text = markdown(numbers)
    (folder / "learning.md").write_text(text)
    print(text)


def markdown(numbers: Mapping[str, Any]) -> str:
    """The table, what was set, and what was left out."""
    return "\n".join([*_tasks(numbers), "", *_table(numbers), "", *_settings(), "", *_left_out(numbers)]) + "\n"


def _tasks(numbers: Mapping[str, Any]) -> list[str]:
    lines = ["# What every online method costs and gains on two tasks with known answers", ""]
    for name, task in numbers["tasks"].items():
        lines.append(
            f"- **{name}**, {task['title']}. Best: {task['optimum']:g}; solved: from {task['solved']:g}; "
            f"{task['steps']} steps."
        )
    if numbers["lacking_runs"]:
        lines += ["", f"**Not finished: {numbers['lacking_runs']} runs are missing.** `make curves` goes on with them."]
    lines += [
        "",
        "The interquartile mean of the held-out return over the seeds after the last step, with its 95 % bootstrap "
        "interval (arXiv 2108.13264; for both tasks together stratified by task); how many seeds solved the task, and "
        "after how many steps (median). Tokens and seconds are per step. Sampled tokens count greedy answers and "
        "continuations too; learner tokens are those that went through the policy forward and backward (a critic's and "
        "those of Fisher products are not counted, the seconds hold them). Seconds are of one processor, "
        "without evaluations.",
    ]
    return lines


def _table(numbers: Mapping[str, Any]) -> list[str]:
    names = list(numbers["tasks"])
    per_task = ("return", "solved", "steps", "sampled", "learned", "seconds")
    header = ["method", *(f"{name}: {column}" for name in names for column in per_task), "together"]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for method, found in numbers["methods"].items():
        row = [f"`{method}`" if method in METHODS else f"control: {method}"]
        for name in names:
            row += _cell(found["tasks"].get(name))
        lines.append(f"| {' | '.join([*row, _interval(found.get('together'))])} |")
    return lines


def _cell(cell: Mapping[str, Any] | None) -> list[str]:
    if cell is None:
        return ["-"] * 6
    return [
        _interval(cell),
        f"{cell['solved']}/{cell['seeds']}",
        "-" if cell["steps_to_solve"] is None else f"{cell['steps_to_solve']:.0f}",
        f"{cell['sampled_tokens_per_step']:,.0f}",
        f"{cell['learner_tokens_per_step']:,.0f}",
        f"{cell['processor_seconds_per_step']:.3f}",
    ]


def _interval(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    low, high = found["interval"]
    return f"{found['interquartile_mean']:.2f} [{low:.2f}, {high:.2f}]"


def _settings() -> list[str]:
    lines = ["Settings were chosen once per family, and are the same for all seeds and both tasks:", ""]
    for family in FAMILIES:
        rates = "" if family.learning_rate is None else f", learning rate {family.learning_rate:g} falling to 0"
        rates += "" if family.critic_rate is None else f" (critic {family.critic_rate:g})"
        own = "".join(f", {name} {value}" for name, value in family.settings.items())
        names = ", ".join(f"`{name}`" for name in family.members)
        lines.append(f"- {family.title} ({names}): entropy bonus {family.entropy:g}{rates}{own}.")
    for name, (method, changed) in CONTROLS.items():
        lines.append(f"- control, {name}: `{method}` with {', '.join(f'{k} {v:g}' for k, v in changed.items())}.")
    return lines


def _left_out(numbers: Mapping[str, Any]) -> list[str]:
    return ["Not run:", "", *(f"- `{name}`: {reason}." for name, reason in numbers["left_out"].items())]


def panels(cells: Results) -> list[Panel]:
    """A row of panels per task, a panel per family."""
    return [_panel(family, name, task, cells) for name, task in learning_tasks().items() for family in FAMILIES]


def _panel(family: Family, name: str, task: LearningTask, cells: Results) -> Panel:
    lines = [Line("best", [0, task.steps], [task.optimum] * 2, colour=len(COLOURS) - 1, dashed=True)]
    members = [method for method, where in cells if where == name and family_of(method) is family]
    for colour, method in enumerate(sorted(members)):
        runs = cells[method, name]
        columns = np.array([run.returns for run in runs]).T
        bands = [bootstrap_interval(column) for column in columns]
        middle = [interquartile_mean(column) for column in columns]
        low, high = [band[0] for band in bands], [band[1] for band in bands]
        lines.append(Line(method, runs[0].steps, middle, low, high, colour=colour))
    return Panel(f"{name}: {family.title}", "steps", "held-out return", lines, y_range=(0.0, 1.05))
