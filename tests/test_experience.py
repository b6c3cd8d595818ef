"""What is counted over the rollouts of a step, by hand."""

from __future__ import annotations

import numpy as np

from laurel.evaluation import Evaluation
from laurel.experience import rollout_metrics
from laurel.metrics import Metric
from laurel.rewards import Grader, GradingSettings, exact_match
from laurel.runs.records import _counts
from laurel.tasks import Task
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
