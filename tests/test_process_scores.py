"""Process scores from end to end: turns are cut into steps, every step is scored, its tokens get its credit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import laurel
from laurel.algorithms import Sampled
from laurel.credit import ProcessScores
from laurel.rewards import in_process, step_scores, weighted
from laurel.runs import Run
from laurel.tasks import Task, TaskSet
from laurel.tree import Source

TASKS = TaskSet("letters", tuple(Task(letter, letter) for letter in "abcd"))


@in_process
def vowels(task: Task, steps: Sequence[str]) -> list[float]:
    return [float(step.count("a")) for step in steps]


def test_every_step_has_its_own_credit(tmp_path: Path) -> None:
    reward = weighted(
        {"length": (in_process(lambda task, text: len(text) / 9), 1.0), "steps": (step_scores(vowels), 0.0)}
    )
    run = laurel.train(
        policy=laurel.policy.tiny(alphabet="abcd", hidden_size=16, layers=1, heads=2, context_length=12),
        tasks=TASKS,
        algorithm=replace(
            laurel.rloo(), source=Sampled(step_separator="b"), credit=ProcessScores("steps", reading="rewards")
        ),
        reward=reward,
        steps=1,
        prompts_per_step=3,
        samples_per_prompt=4,
        limits=laurel.Limits(max_new_tokens=9),
        run=tmp_path / "run",
    )
    with Run.open(run.directory) as opened:
        trees, credits = opened.trees(1), opened.credits(1)
    several = 0
    for tree, credit in zip(trees, credits, strict=True):
        totals = [len(r.text) / 9 + r.text.count("a") for r in tree.rollouts]
        for number, rollout in enumerate(tree.rollouts):
            steps = [s for s in tree.path(rollout.leaf) if tree.segments[s].source is Source.POLICY]
            several += len(steps) > 1
            assert all(tree.segments[s].text.endswith("b") for s in steps[:-1])
            others = (sum(totals) - totals[number]) / (len(totals) - 1)
            for place, step in enumerate(steps):
                ahead = "".join(tree.segments[s].text for s in steps[place:])
                own = slice(int(tree.flat.starts[step]), int(tree.flat.ends[step]))
                expected = len(rollout.text) / 9 + ahead.count("a") - others
                np.testing.assert_allclose(credit.advantages[own], expected, atol=1e-6)
    assert several > 3
