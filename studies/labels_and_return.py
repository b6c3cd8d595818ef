"""How many labels a policy needs, by which pairs a teacher is asked about.

    python -m studies.labels_and_return [--workers 2]

Two settings. In the first all but the labels is exact (`studies.label_world`): what is compared is the choice of pairs
alone, under three teachers. In the second `laurel.train` runs with a `LabelledReward`: a transformer from scratch, an
ensemble of transformers, leave-one-out policy gradients; its control is the same run under the true reward.

Needed: the fewest labels from which on the return is 90 % of what the true reward gives, for three rounds in a row.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import laurel
from laurel.learner import EnsembleSettings, LabelledReward
from laurel.picture import Line, Panel
from laurel.preferences import RewardTeacher
from laurel.preferences.queries import SELECTIONS
from laurel.rewards import in_process
from laurel.tasks import Task, TaskSet
from studies.intervals import bootstrap_interval, quartiles
from studies.label_world import PER_ROUND, ROUNDS, Answers, returns_by_round
from studies.learning import end_with_parent
from studies.publishing import publish, table

SEEDS, RUN_SEEDS = 40, 6
ENOUGH, IN_A_ROW = 0.9, 3
TEACHERS = {
    "always right": Answers(),
    "Bradley-Terry": Answers(rationality=1.0),
    "one mistake in ten": Answers(mistake=0.1),
}
LETTERS = "abcdef"
STEPS, LABELS_PER_STEP = 50, 1
QUICK = EnsembleSettings(members=3, steps=8, start="random", optimiser=laurel.OptimiserSettings(learning_rate=5e-3))
ARMS: dict[str, dict[str, Any]] = {
    **{name: {"selection": name} for name in SELECTIONS},
    "uniform, uniform start": {"selection": "uniform", "ensemble": replace(QUICK, start="uniform")},
    "uniform, pseudo-labels": {"selection": "uniform", "ensemble": replace(QUICK, pseudo_threshold=0.95)},
    "uniform, bonus": {"selection": "uniform", "exploration": 0.5, "exploration_decay": 0.05},
}
TRUE = "true reward"


@in_process
def worth(task: Task, text: str) -> float:
    """The mean place of an answer's letters in the alphabet, from 0 to 1; the letter of the prompt is worth nothing."""
    values = [LETTERS.index(c) / 5 for c in text if c in LETTERS and c not in str(task.prompt)]
    return sum(values) / 3


def run(arm: str, seed: int) -> list[float]:
    """The true reward of the samples of every step, on average."""
    torch.set_num_threads(1)
    policy = laurel.policy.tiny(
        alphabet=f"{LETTERS}:", hidden_size=32, layers=1, heads=2, context_length=8, seed=seed
    )  # fmt: skip
    tasks = TaskSet("letters", tuple(Task(letter, f"{letter}:") for letter in LETTERS))
    learned = {**{"ensemble": QUICK, "labels": STEPS * LABELS_PER_STEP}, **ARMS.get(arm, {})}
    reward = worth if arm == TRUE else LabelledReward(RewardTeacher(worth), labels_per_round=LABELS_PER_STEP, **learned)
    with tempfile.TemporaryDirectory() as folder:
        made = laurel.train(
            policy=policy,
            tasks=tasks,
            algorithm=laurel.rloo(),
            reward=reward,
            steps=STEPS,
            prompts_per_step=6,
            samples_per_prompt=8,
            limits=laurel.Limits(max_new_tokens=3),
            optimiser=laurel.OptimiserSettings(learning_rate=1e-2),
            checkpoint_every=STEPS,
            seed=seed,
            run=Path(folder) / "run",
        )
        with laurel.Run.open(made.directory) as kept:
            drawn = [
                [(tree.task_id, r.text) for tree in kept.trees(step) for r in tree.rollouts] for step in kept.steps()
            ]
    return [statistics.fmean(worth(tasks.by_id[task], text) for task, text in some) for some in drawn]


def needed(returns: Sequence[float], enough: float, labels_per_round: int) -> int | None:
    """The fewest labels after which `IN_A_ROW` rounds reached `enough`; None: never.

    `returns[n]` is what was reached after n + 1 rounds.
    """
    for place in range(len(returns) - IN_A_ROW + 1):
        if min(returns[place : place + IN_A_ROW]) >= enough:
            return (place + 1) * labels_per_round
    return None


def summary(found: Sequence[int | None], most: int) -> dict[str, Any]:
    """Median and its interval over the seeds; those that never got there count as more than all labels."""
    values = [most + 1.0 if labels is None else float(labels) for labels in found]
    low, high = bootstrap_interval(values, lambda some: float(np.median(some)))
    return {
        "median": float(np.median(values)),
        "interval": [low, high],
        "never": sum(labels is None for labels in found),
        "labels": list(found),
    }


def against_uniform(found: Sequence[int | None], uniform: Sequence[int | None], most: int) -> list[float]:
    """Interval of the median ratio of labels to those of uniform pairs with the same seed."""
    pairs = zip(found, uniform, strict=True)
    ratios = [(most + 1 if one is None else one) / (most + 1 if other is None else other) for one, other in pairs]
    return [float(np.median(ratios)), *bootstrap_interval(ratios, lambda some: float(np.median(some)))]


def reported(title: str, found: dict[str, dict[str, Any]], most: int) -> None:
    """Print what each rule needed."""

    def count(value: float) -> str:
        return f"> {most}" if value > most else f"{value:g}"

    print(title)
    rows = [
        [
            name,
            count(one["median"]),
            " to ".join(map(count, one["interval"])),
            str(one["never"]),
            "{:.2f} ({:.2f} to {:.2f})".format(*one["against_uniform"]),
        ]
        for name, one in found.items()
    ]
    print(table(["pairs", "labels", "interval", "never", "times those of uniform"], rows))


def exact(pool: ProcessPoolExecutor, seeds: int) -> tuple[dict[str, Any], list[Panel]]:
    """The first setting: the numbers and a panel for each teacher."""
    numbers: dict[str, Any] = {}
    panels = []
    cells = {
        (teacher, name): [pool.submit(returns_by_round, name, answers, seed) for seed in range(seeds)]
        for teacher, answers in TEACHERS.items()
        for name in SELECTIONS
    }
    most = ROUNDS * PER_ROUND
    for teacher in TEACHERS:
        lines, found = [], {}
        for colour, name in enumerate(SELECTIONS):
            courses = [future.result() for future in cells[teacher, name]]
            labels = [needed(course, ENOUGH, PER_ROUND) for course in courses]
            found[name] = {**summary(labels, most), "median_return": quartiles(np.array(courses))[1]}
            low, middle, high = quartiles(np.array(courses))
            x = [PER_ROUND * (n + 1) for n in range(ROUNDS)]
            lines.append(Line(name.replace("_", " "), x, middle, low, high, colour=colour))
            found[name]["against_uniform"] = against_uniform(labels, found["uniform"]["labels"], most)
        reported(f"\nexact, a teacher who is {teacher}; {seeds} seeds", found, most)
        numbers[teacher] = found
        lines.append(Line("90 %", [PER_ROUND, most], [ENOUGH, ENOUGH], colour=5, dashed=True))
        panels.append(Panel(f"Exact; teacher: {teacher}", "labels", "share of the best gain", lines, y_range=(0, 1)))
    return numbers, panels


def trained(pool: ProcessPoolExecutor, seeds: int) -> tuple[dict[str, Any], Panel]:
    """The second setting: the numbers and its panel."""
    cells = {arm: [pool.submit(run, arm, seed) for seed in range(seeds)] for arm in (TRUE, *ARMS)}
    courses = {arm: [future.result() for future in futures] for arm, futures in cells.items()}
    most = STEPS * LABELS_PER_STEP
    reached = [statistics.fmean(course[-IN_A_ROW:]) for course in courses[TRUE]]
    found: dict[str, Any] = {}
    lines = []
    x = [LABELS_PER_STEP * (n + 1) for n in range(STEPS)]
    for colour, (arm, runs) in enumerate(courses.items()):
        # The samples of step n + 1 are those of the policy that the labels of the first n steps made.
        labels = [needed(c[1:], ENOUGH * end, LABELS_PER_STEP) for c, end in zip(runs, reached, strict=True)]
        low, middle, high = quartiles(np.array(runs))
        found[arm] = {**summary(labels, most), "median_return": middle}
        band = (low, high) if arm in (TRUE, "uniform") else (None, None)
        lines.append(Line(arm.replace("_", " "), x, middle, *band, colour=colour % 6, dashed=colour > 5))
    for one in found.values():
        one["against_uniform"] = against_uniform(one["labels"], found["uniform"]["labels"], most)
    reported(
        f"\nlaurel.train, {seeds} seeds; for the true reward: labels that would have been asked by then", found, most
    )
    return found, Panel("Trained", "labels (one for each step)", "true reward of the samples", lines)


def main() -> None:
    """Run all, report and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=spawn, initializer=end_with_parent) as pool:
        learned, panel = trained(pool, RUN_SEEDS)
        solved, panels = exact(pool, SEEDS)
    numbers = {"enough": ENOUGH, "exact": solved, "trained": learned}
    publish("labels_and_return", "Labels needed, by what a teacher is asked", numbers, [*panels, panel], columns=2)


if __name__ == "__main__":
    main()
