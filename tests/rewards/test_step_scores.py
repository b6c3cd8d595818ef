"""Scores of steps: one per step, or the rollout failed."""

import pytest
from rewards_for_tests import lengths_of_steps

from laurel.errors import ConfigurationError
from laurel.rewards import (
    Failed,
    Grader,
    GradingSettings,
    Score,
    aggregate,
    each_step,
    in_process,
    step_scores,
    weighted,
)
from laurel.rewards.reward import needs_rollout, runs_in_process
from laurel.tasks import Task
from laurel.tree import Ending, Outcome, Segment, Source, Tree

TASK = Task("task", "q")
ENDED = Outcome(Ending.TERMINATED, "stop")


def in_two_samples() -> Tree:
    """prompt -+- "a" - "bb" - heard - "ccc": the first sample
    +- "dd": the second"""
    parts = [(Source.POLICY, 0, "a"), (Source.POLICY, 1, "bb"), (Source.ENVIRONMENT, 2, "?"), (Source.POLICY, 3, "ccc")]
    segments = [Segment(Source.PROMPT, [1], -1, text="q")]
    for source, parent, text in parts:
        name = "tree.0" if source is Source.POLICY else None
        last = ENDED if text == "ccc" else None
        segments.append(Segment(source, [2] * len(text), parent, text=text, rollout_id=name, outcome=last))
    segments.append(Segment(Source.POLICY, [2, 2], 0, text="dd", rollout_id="tree.1", outcome=ENDED))
    return Tree("tree", "task", tuple(segments))


def graded(reward, workers: int = 0) -> list[Score | Failed]:
    settings = GradingSettings(workers=workers, failure_fraction=1.0)
    with Grader(reward, settings) as grader:
        (tree,), _ = grader.grade([in_two_samples()], {"task": TASK})
    return [rollout.outcome.score for rollout in tree.rollouts]


@pytest.mark.parametrize("workers", [0, 1])
def test_one_part_per_step_and_nothing_earned(workers):
    first, second = graded(step_scores(lengths_of_steps), workers)
    assert first == Score(0.0, {"step 1": 1.0, "step 2": 2.0, "step 3": 3.0})
    assert second == Score(0.0, {"step 1": 2.0})


def test_beside_a_reward_under_its_own_name():
    @in_process
    def doubled(task, steps):
        return [2 * len(step) for step in steps]

    right = in_process(lambda task, text: text == "dd")
    reward = weighted({"right": (right, 1.0), "process": (step_scores(doubled), 0.0)})
    assert needs_rollout(reward) and runs_in_process(reward)
    _, second = graded(reward)
    assert second == Score(1.0, {"right": 1.0, "process": 0.0, "process/step 1": 4.0})


@pytest.mark.parametrize("workers", [0, 1])
def test_another_number_of_scores_fails_the_rollout_and_names_it(workers):
    def first_two(task, steps):
        return [1.0, 1.0]

    first, second = graded(step_scores(first_two), workers)
    assert isinstance(first, Failed) and isinstance(second, Failed)
    assert "first_two returned 2 numbers for an answer of 3 steps" in first.reason
    assert "2 numbers for an answer of 1 steps" in second.reason


def test_what_is_no_number_fails_the_rollout():
    first, second = graded(step_scores(lambda task, steps: [float("nan")] * len(steps)))
    assert "step 1: " in first.reason and "not finite" in second.reason
    (failed, _) = graded(step_scores(lambda task, steps: None))
    assert isinstance(failed, Failed) and "TypeError" in failed.reason
    (failed, _) = graded(step_scores(lambda task, steps: [1 / 0]))
    assert isinstance(failed, Failed) and "ZeroDivisionError" in failed.reason


def test_what_is_no_function_is_refused():
    with pytest.raises(ConfigurationError, match="no function"):
        step_scores([0.5])


@pytest.mark.parametrize(
    ("how", "value"), [("min", 0.5), ("product", 0.36), ("last", 0.9), ("mean", 2.2 / 3), ("sum", 2.2)]
)
def test_steps_put_together_by_hand(how, value):
    assert aggregate((0.5, 0.8, 0.9), how) == pytest.approx(value)
    assert aggregate((0.8,), how) == 0.8


def test_there_is_no_other_way_to_put_steps_together():
    with pytest.raises(ConfigurationError, match=r"cannot be put together by 'max'.*\n.*min, product, last"):
        aggregate((1.0,), "max")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_judge_of_one_step_sees_what_stands_before_it(workers):
    def order(task, before, step):
        return float(len("".join(before)) + len(step) / 10)

    first, second = graded(step_scores(each_step(order)), workers)
    assert list(first.parts.values()) == [0.1, 1.2, 3.3] and second.parts == {"step 1": 0.2}
    with pytest.raises(ConfigurationError, match="judge 'x' is no function"):
        each_step("x")
