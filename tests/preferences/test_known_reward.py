"""A teacher who judges by a reward function: what it says, and what it refuses to make up."""

from __future__ import annotations

import numpy as np
import pytest

from laurel.errors import ConfigurationError, RewardError
from laurel.preferences import Query, RewardTeacher, ScriptedTeacher
from laurel.rewards import math_answer, step_scores
from laurel.tasks import Task
from laurel.tree import Ending, Outcome, Rollout, Segment, Source, Tree


def letters(task: Task, text: str) -> float:
    return float(text.count(task.reference or "a"))


def rollout(*steps: str) -> Rollout:
    segments = [Segment(Source.PROMPT, np.array([1]), -1, text="?")]
    for number, text in enumerate(steps):
        last = Outcome(Ending.TERMINATED, "end") if number == len(steps) - 1 else None
        segments.append(Segment(Source.POLICY, np.array([2]), number, text=text, outcome=last))
    return Tree("t", "t", tuple(segments)).rollouts[0]


def test_the_greater_reward_wins_and_faults_are_the_judges() -> None:
    oracle = RewardTeacher(letters)
    said = [oracle(Query(Task("t", "?", "b"), sides)) for sides in (("bb", "ab"), ("a", "b"), ("a", "c"))]
    assert said == [1.0, 0.0, 0.5]
    picky = RewardTeacher(letters, ScriptedTeacher(skip_below=1.5))
    assert picky(Query(Task("t", "?", "b"), ("b", "a"))) is None


def test_steps_have_rewards_of_their_own() -> None:
    scorer = step_scores(lambda task, steps: [float(step.count("a")) for step in steps])
    early, late = rollout("aaa", "b"), rollout("b", "aa")
    asked = Query(Task("t", "?"), ("b", "aa"), rollouts=(early, late))
    assert RewardTeacher(scorer)(asked) == 1.0  # 3 against 2
    # Short-sighted: 3 / 4 against 2 / 2, as the score's own 0 comes last.
    assert RewardTeacher(scorer, ScriptedTeacher(discount=0.5))(asked) == 0.0
    with pytest.raises(RewardError, match="reads rollouts"):
        RewardTeacher(scorer)(Query(Task("t", "?"), ("b", "aa")))


def test_a_failure_is_no_verdict() -> None:
    def broken(task: Task, text: str) -> float:
        raise ValueError("no idea")

    with pytest.raises(RewardError, match="task t: ValueError: no idea"):
        RewardTeacher(broken)(Query(Task("t", "?"), ("a", "b")))
    with pytest.raises(ConfigurationError, match="cannot run in this process"):
        RewardTeacher(math_answer())


def test_it_goes_on_where_it_was() -> None:
    def noisy() -> RewardTeacher:
        return RewardTeacher(letters, ScriptedTeacher(rationality=0.5, seed=2))

    asked = Query(Task("t", "?"), ("a", "b"))
    whole, first, second = noisy(), noisy(), noisy()
    said = [whole(asked) for _ in range(20)]
    assert [first(asked) for _ in range(8)] == said[:8]
    second.load_state(first.state())
    assert [second(asked) for _ in range(12)] == said[8:] and len(set(said)) == 2
