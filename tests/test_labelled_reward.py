"""Preference-based reinforcement in one run: the budget, labels on disk, a kill between two of them, the return."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_resume import Result, ended, in_child, result, sums, train

import laurel
from laurel.errors import ConfigurationError, RewardError
from laurel.learner import EnsembleSettings, LabelledReward
from laurel.learner.labelled_reward import FILE, UNUSED
from laurel.objectives import BradleyTerry
from laurel.policy import disagreement
from laurel.preferences import Query, RewardTeacher, ScriptedTeacher, rankings
from laurel.rewards import in_process
from laurel.runs import Run
from laurel.tasks import Task
from laurel.tree import Rollout

QUICK = EnsembleSettings(
    members=2, steps=2, pairs=4, start="uniform", optimiser=laurel.OptimiserSettings(learning_rate=1e-2)
)


@in_process
def size(task: Task, text: str) -> float:
    """The greater the first digit, the better."""
    return float(text[:1]) if text[:1].isdigit() else -1.0


def learns(teacher: Callable[[Query], float | None] | None = None, **settings: Any) -> dict[str, Any]:
    given = {
        "labels": 10,
        "labels_per_round": 4,
        "ask_every": 2,
        "selection": "disagreement",
        "ensemble": QUICK,
        **settings,
    }
    return {"reward": LabelledReward(teacher or noisy(), **given), "watched_reward": size}


def noisy() -> RewardTeacher:
    return RewardTeacher(size, ScriptedTeacher(rationality=1.0, skip_below=2.0, equal_within=0.5, seed=5))


def run_of(directory: Path, **changes: Any) -> Run:
    return train(directory, **{"steps": 6, "algorithm": laurel.rloo(), **changes})


def rows(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / FILE).read_text().splitlines()]


def test_the_budget_is_spent_in_rounds_and_every_answer_is_on_disk(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", **learns())
    asked = [metric.sum for _, metric in run.metric("labels/asked")]
    assert asked == [4, 4, 8, 8, 10, 10]
    kept = rows(tmp_path / "run")
    assert len(kept) == 10 and all(len(set(row["answers"])) == 2 for row in kept)
    assert len({(row["prompt"], *sorted(row["answers"])) for row in kept}) == 10
    skipped = sum(metric.sum for _, metric in run.metric("labels/skipped"))
    equal = sum(metric.sum for _, metric in run.metric("labels/equal"))
    ranks = [row["ranks"] for row in kept]
    assert (ranks.count(None), ranks.count([1, 1])) == (skipped, equal)
    found = rankings(tmp_path / "run" / FILE, ranks="ranks")
    assert len(found) == 10 - skipped
    drawn = {
        (tree.segments[0].text, rollout.text)
        for step in run.steps()
        for tree in run.trees(step)
        for rollout in tree.rollouts
    }
    assert all((row["prompt"], answer) in drawn for row in kept for answer in row["answers"])


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    """Four prompts with answers of one token: before long everything that comes up was asked about."""
    changes = learns(labels=400, labels_per_round=100, ask_every=1)
    run_of(tmp_path / "run", **changes, tasks=sums(0, 4), limits=laurel.Limits(max_new_tokens=1))
    asked = [(row["prompt"], *sorted(row["answers"])) for row in rows(tmp_path / "run")]
    assert 20 < len(set(asked)) == len(asked) < 144  # 6 steps of at most 24 pairs


@dataclass
class Fatal:
    """A noisy teacher in whose hands the process dies before an answer, if the environment says at which."""

    at: int

    def __post_init__(self) -> None:
        self.teacher = noisy()
        self.state, self.load_state = self.teacher.state, self.teacher.load_state

    def __call__(self, query: Query) -> float | None:
        if self.teacher.state()["asked"] == int(os.environ.get("DIE_AT", "-1")):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.teacher(query)


def whole_and_file(directory: Path) -> tuple[Result, bytes]:
    return result(directory), (directory / FILE).read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, bytes]:
    directory = tmp_path_factory.mktemp("whole") / "run"
    assert ended(in_child(lambda: run_of(directory, **learns(Fatal(0))))) == 0
    return whole_and_file(directory)


@pytest.mark.parametrize(
    "death",
    [
        {"DIE_AT": "2"},
        {"DIE_AT": "6"},
        {"DIE_AT": "9"},
        {"LAUREL_KILL_AT": "after_sampling:4"},
        {"LAUREL_KILL_AT": "after_grading:3"},
        {"LAUREL_KILL_AT": "before_update:5"},
        {"LAUREL_KILL_AT": "in_checkpoint_write:4"},
        {"LAUREL_KILL_AT": "after_checkpoint:2"},
    ],
)
def test_killed_anywhere_it_is_the_same_run(
    death: dict[str, str], tmp_path: Path, uninterrupted: tuple[Result, bytes]
) -> None:
    """Budget, labels, ensemble, offsets and the teacher's draws, byte for byte."""
    directory = tmp_path / "run"
    assert ended(in_child(lambda: run_of(directory, **learns(Fatal(0))), death)) == -signal.SIGKILL
    assert ended(in_child(lambda: run_of(directory, resume=True, **learns(Fatal(0))))) == 0
    assert whole_and_file(directory) == uninterrupted
    assert not (directory / UNUSED).exists()


class Person:
    """Has no state, and leaves a note of whatever is asked."""

    description = "a person"

    def __init__(self, notes: Path, leaves_at: int | None = None) -> None:
        self.notes, self.leaves_at = notes, leaves_at

    def __call__(self, query: Query) -> float | None:
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        if len(lines) == self.leaves_at:
            raise KeyboardInterrupt
        self.notes.write_text("\n".join([*lines, json.dumps([query.task.prompt, *query.answers])]))
        return float(size(query.task, query.answers[0]) > size(query.task, query.answers[1]))


def test_a_person_who_leaves_is_asked_nothing_twice(tmp_path: Path) -> None:
    whole, directory = tmp_path / "whole", tmp_path / "run"
    run_of(whole, **learns(Person(tmp_path / "all")))
    with pytest.raises(KeyboardInterrupt):
        run_of(directory, **learns(Person(tmp_path / "notes", leaves_at=6)))
    assert Run.open(directory).status.state == "interrupted" and len(rows(directory)) == 6
    run_of(directory, resume=True, **learns(Person(tmp_path / "notes")))
    assert whole_and_file(directory) == whole_and_file(whole)
    assert (tmp_path / "notes").read_text() == (tmp_path / "all").read_text()


def test_labels_that_are_not_asked_for_any_more_are_put_aside(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_of(directory, **learns(Person(tmp_path / "notes", leaves_at=3)))
    given = (directory / FILE).read_text().splitlines()
    other = json.dumps({**json.loads(given[1]), "prompt": "of another run"})
    (directory / FILE).write_text("\n".join([given[0], other, given[2], ""]))
    run_of(directory, resume=True, **learns(Person(tmp_path / "more")))
    assert (directory / UNUSED).read_text().splitlines() == [other, given[2]]
    assert (directory / FILE).read_text().splitlines()[:3] == given
    assert len(rows(directory)) == 10


def test_the_settings_belong_to_the_run(tmp_path: Path) -> None:
    run_of(tmp_path / "run", **{**learns(), "steps": 3})
    with pytest.raises(ConfigurationError, match="selection"):
        run_of(tmp_path / "run", resume=True, **learns(selection="entropy"))


def test_what_a_rollout_is_worth(tmp_path: Path) -> None:
    """Mean - pessimism * disagreement + bonus * disagreement, around the first batch; the bonus decays."""
    changes = learns(pessimism=0.25, exploration=1.0, exploration_decay=0.5, objective=BradleyTerry(ties=True))
    run = run_of(tmp_path / "run", **changes)
    reward = changes["reward"]
    trees = [tree for tree in run.trees(6) if tree.rollouts]
    asked = [(Task(tree.task_id, "?"), rollout) for tree in trees for rollout in tree.rollouts]
    said, _ = reward._members.rewards(asked)
    rewards = said - reward._offsets[:, None]
    found = reward.score_rollouts(asked)
    wanted = rewards.mean(0) + (0.5**5 - 0.25) * disagreement(rewards)
    np.testing.assert_allclose([score.value for score in found], wanted, atol=1e-9)
    assert {tuple(score.parts) for score in found} == {("ensemble_mean", "ensemble_disagreement")}
    first = [(Task(tree.task_id, "?"), Rollout(tree, leaf)) for tree in reward._start for leaf in tree.leaves]
    centred = reward._members.rewards(first)[0] - reward._offsets[:, None]
    np.testing.assert_allclose(centred.mean(axis=1), 0, atol=1e-9)
    assert len(reward.models) == 2 and len(reward.labelled) == 10 - sum(m.sum for _, m in run.metric("labels/skipped"))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"labels": 0}, "labels must be at least 1"),
        ({"labels": 4, "selection": "boredom"}, "boredom"),
        ({"labels": 4, "pessimism": -1.0}, "pessimism"),
        ({"labels": 4, "exploration": -1.0}, "bonus"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        LabelledReward(noisy(), **settings)


def test_outside_of_a_run_it_says_nothing() -> None:
    with pytest.raises(RewardError, match="none has begun"):
        LabelledReward(noisy(), labels=4).score_rollouts([])


def test_forty_labels_teach_what_the_reward_would(tmp_path: Path) -> None:
    """The first digit of an answer: from below the middle to nearly all eights and nines."""
    changes = learns(
        RewardTeacher(size),
        labels=40,
        labels_per_round=8,
        ensemble=EnsembleSettings(members=2, steps=15, optimiser=laurel.OptimiserSettings(learning_rate=1e-2)),
    )
    run = run_of(
        tmp_path / "run",
        **changes,
        steps=25,
        evaluate_every=25,
        samples_per_prompt=8,
        limits=laurel.Limits(max_new_tokens=1),
        optimiser=laurel.OptimiserSettings(learning_rate=2e-2),
    )
    before, after = (found.metric.mean for found in run.evaluations() if found.name == "watched")
    assert before < 4.5 and after > 7
