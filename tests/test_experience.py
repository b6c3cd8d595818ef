"""What is counted over the rollouts of a step, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import laurel
from laurel.evaluation import Evaluation
from laurel.experience import rollout_metrics
from laurel.metrics import Metric
from laurel.rewards import Grader, GradingSettings, exact_match, in_process
from laurel.runs import Run
from laurel.runs.records import _counts
from laurel.tasks import Task, TaskSet
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree


def fan(*outcomes: Outcome) -> Tree:
    """Rollout i has i + 1 tokens."""
    answers = [
        Segment(Source.POLICY, np.arange(1, index + 2), 0, text="x", outcome=outcome, rollout_id=f"1.{index}")
        for index, outcome in enumerate(outcomes)
    ]
    return Tree("1", "t", (Segment(Source.PROMPT, np.array([1]), -1), *answers))


def test_what_is_left_out_for_being_truncated_is_truncated_and_did_not_fail() -> None:
    tree = fan(
        Outcome(Ending.TERMINATED, "eos"),
        Outcome(Ending.TRUNCATED, "length"),
        Outcome(Ending.FAILED, "environment", Failed("no sandbox")),
        Outcome(Ending.TERMINATED, "eos", Failed("no judge")),
        Outcome(Ending.TRUNCATED, "length", Score(0.5)),
    )
    with Grader(exact_match(), GradingSettings(truncated_reward="leave_out", failure_fraction=1.0)) as grader:
        (graded,), _ = grader.grade([tree], {"t": Task("t", "q", "x")})
    metrics = rollout_metrics([graded])
    assert metrics["reward"] == Metric(1.5, 2)
    assert metrics["truncated"] == Metric(2, 4)
    assert metrics["answer_tokens"] == Metric(1 + 2 + 4 + 5, 4)
    assert metrics["failed"] == Metric(2, 5)
    assert metrics["left_out"] == Metric(1, 5)
    assert _counts(graded) == (5, 2)


def test_an_evaluation_tells_failed_from_left_out() -> None:
    assert str(Evaluation("held_out", 0.5, 0.25, 0.75, 4, 1, (), 2)).endswith("over 4 tasks, 1 failed, 2 left out")


@in_process
def by_first_letter(task: Task, text: str) -> float:
    return float(task.id == "b" and text[:1] == "a")


@pytest.mark.parametrize(
    "held",
    [{}, {"kl": 0.5}, {"constraint": laurel.Budget("answer_tokens", at_most=1, rate=0.1, coefficient=1.0)}],
    ids=["free", "kl", "budget"],
)
def test_groups_without_signal_are_those_that_the_reward_of_the_task_does_not_tell_apart(
    held: dict[str, Any], tmp_path: Path
) -> None:
    run = laurel.train(
        policy=laurel.policy.tiny(alphabet="ab", hidden_size=16, layers=1, heads=2, context_length=8),
        tasks=TaskSet("letters", (Task("a", "a"), Task("b", "b"))),
        algorithm=laurel.rloo(**held),
        reward=by_first_letter,
        steps=3,
        prompts_per_step=2,
        samples_per_prompt=16,
        limits=laurel.Limits(max_new_tokens=4),
        optimiser=laurel.OptimiserSettings(learning_rate=1e-2),
        run=tmp_path / "run",
    )
    with Run.open(run.directory) as opened:
        silent = [metric for _, metric in opened.metric("groups_without_signal")]
        told_apart = [
            sum(len({rollout.reward for rollout in tree.rollouts}) > 1 for tree in opened.trees(step))
            for step in opened.steps()
        ]
    assert [(metric.sum, metric.count) for metric in silent] == [(2 - apart, 2) for apart in told_apart]
    assert told_apart == [1, 1, 1], "only the answers to b differ in what they earn"
