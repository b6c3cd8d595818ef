"""Combinations keep their parts, and a missing part is not a zero."""

import asyncio

import pytest

from laurel.errors import ConfigurationError
from laurel.rewards import Failed, Grader, GradingSettings, Score, exact_match, in_process, numeric_answer, weighted
from laurel.rewards.reward import Subject, needs_rollout, runs_in_process, waits
from laurel.tasks import Task
from laurel.tree import Ending, Outcome, Segment, Source, Tree

TASK = Task("t", "q", "42")


def combine(reward, text):
    return asyncio.run(reward.combine(TASK, Subject(text)))


def brief(task, text):
    return len(text) < 5


async def later(task, text):
    return 1.0


def test_the_weighted_sum_by_hand():
    reward = weighted({"right": (numeric_answer(), 1.0), "brief": (brief, 0.25), "exact": (exact_match(), -0.5)})
    assert combine(reward, "42") == Score(0.75, {"right": 1.0, "brief": 1.0, "exact": 1.0})
    assert combine(reward, "it is 42") == Score(1.0, {"right": 1.0, "brief": 0.0, "exact": 0.0})


def test_parts_of_parts():
    inner = weighted({"exact": (exact_match(), 2.0)})
    assert combine(weighted({"all": (inner, 0.5)}), "42") == Score(1.0, {"all": 2.0, "all/exact": 1.0})


def test_a_failed_part_is_named():
    reward = weighted({"right": (numeric_answer(), 1.0), "judge": (lambda task, text: None, 1.0)})
    result = combine(reward, "42")
    assert isinstance(result, Failed) and result.reason.startswith("judge: the reward returned None")


def test_it_runs_here_only_if_all_parts_do():
    assert runs_in_process(weighted({"a": (exact_match(), 1.0), "b": (in_process(lambda task, text: 0), 1.0)}))
    assert not runs_in_process(weighted({"a": (exact_match(), 1.0), "b": (brief, 1.0)}))


def test_it_needs_and_waits_for_what_its_parts_do():
    assert not needs_rollout(weighted({"a": (brief, 1.0)})) and not waits(weighted({"a": (brief, 1.0)}))
    assert needs_rollout(weighted({"a": (lambda task, rollout: 0.0, 1.0)})) and waits(weighted({"a": (later, 1.0)}))


class LengthsTogether:
    """Scores all rollouts of a step at once, and counts how often it was asked."""

    runs_in_process = True

    def __init__(self):
        self.asked = 0

    def __call__(self, task, rollout):
        return self.score_rollouts([(task, rollout)])[0]

    def score_rollouts(self, asked):
        self.asked += 1
        return [Failed("too long") if len(r.text) > 4 else Score(len(r.text), {"x": 0.5}) for _, r in asked]


def tree_of(*texts):
    ended = Outcome(Ending.TERMINATED, "stop")
    segments = [Segment(Source.PROMPT, [1], -1)]
    segments += [
        Segment(Source.POLICY, [2], 0, text, outcome=ended, rollout_id=f"t.{n}") for n, text in enumerate(texts)
    ]
    return Tree("t", "t", tuple(segments))


def test_a_part_that_scores_together_is_asked_once_a_step_and_says_the_same():
    many = LengthsTogether()
    inner = weighted({"length": (many, 2.0)})
    reward = weighted({"right": (in_process(lambda task, text: float(text == "42")), 1.0), "inner": (inner, 0.5)})
    tree = tree_of("42", "abc", "abcde")
    with Grader(reward, GradingSettings(failure_fraction=1.0)) as grader:
        (graded,), _ = grader.grade([tree], {"t": TASK})
    scores = [rollout.outcome.score for rollout in graded.rollouts]
    assert many.asked == 1
    names = {"right": 1.0, "inner": 4.0, "inner/length": 2.0, "inner/length/x": 0.5}
    assert scores[0] == Score(1.0 + 0.5 * 4, names)
    assert scores[1] == Score(3.0, {"right": 0.0, "inner": 6.0, "inner/length": 3.0, "inner/length/x": 0.5})
    assert scores[2] == Failed("inner: length: too long")
    alone = [asyncio.run(reward.combine(TASK, Subject(r.text, r))) for r in graded.rollouts]
    assert alone == scores


@pytest.mark.parametrize(
    "parts",
    [{}, {"a": exact_match()}, {"a": (exact_match(), "1")}, {"a": (exact_match(), float("nan"))}, {"a": (len, 1.0)}],
)
def test_what_is_no_combination_is_refused(parts):
    with pytest.raises(ConfigurationError, match="What to do"):
        weighted(parts)
