"""A judge with a known bias to one place: what each average leaves of it; and a judge in a teacher's place."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.errors import ConfigurationError, RewardError
from laurel.preferences import BothOrders, JudgeTeacher, Query, in_both_orders, taught
from laurel.preferences.both_orders import log_odds_of, sigmoid
from laurel.tasks import Task
from laurel.tree import Failed

TASK = Task("t", "say a number")
odds = st.floats(-20, 20)


def biased(bias: float, scale: float = 1.0):  # type: ignore[no-untyped-def]
    """The greater number wins, in log-odds by the difference; the first place is worth `bias` more."""
    return lambda task, first, second: sigmoid(scale * (float(first) - float(second)) + bias)


def asked(judge: object, first: str = "3", second: str = "2") -> BothOrders:
    (said,) = in_both_orders(judge, [(TASK, first, second)])  # type: ignore[arg-type]
    assert isinstance(said, BothOrders)
    return said


def test_by_hand() -> None:
    """The first is better by 1, its place is worth 2: l(3, 2) = 3, l(2, 3) = 1; it says "the first" both times."""
    said = asked(biased(2.0))
    assert (said.forward, said.backward) == (pytest.approx(3.0), pytest.approx(1.0))
    assert (said.preference, said.position) == (pytest.approx(1.0), pytest.approx(2.0))
    assert said.flips and (said.verdict(), said.verdict("tie"), said.verdict("skip")) == (1.0, 0.5, None)
    assert said.probability() == pytest.approx(1 / (1 + math.exp(-1))) and said.probability(ties=True) == 0.5
    assert said.said_first == pytest.approx((0.95257413 + 0.73105858) / 2)
    other = asked(biased(-0.5), "2", "3")
    assert not other.flips and other.verdict("skip") == 0.0 and other.probability(ties=True) == other.probability()


@given(odds, odds)
def test_log_odds_cancel_an_added_bias_and_probabilities_only_blur_it(strength: float, bias: float) -> None:
    said = BothOrders(strength + bias, -strength + bias)
    assert said.preference == pytest.approx(strength, abs=1e-12) and said.position == pytest.approx(bias, abs=1e-12)
    of_probabilities = (sigmoid(said.forward) + 1 - sigmoid(said.backward)) / 2
    both = math.cosh(strength) + math.cosh(bias)
    assert of_probabilities - 0.5 == pytest.approx(math.sinh(strength) / (2 * both), abs=1e-12)
    assert said.said_first - 0.5 == pytest.approx(math.sinh(bias) / (2 * both), abs=1e-12)
    assert abs(of_probabilities - 0.5) <= abs(said.probability() - 0.5) + 1e-12


@given(odds, odds)
def test_the_other_order_says_the_same_of_the_other_side(forward: float, backward: float) -> None:
    one, other = BothOrders(forward, backward), BothOrders(backward, forward)
    assert one.preference == -other.preference and one.position == other.position and one.flips == other.flips
    assert one.verdict() == 1 - (other.verdict() or 0.0)


def test_a_judge_that_always_says_the_first_prefers_nothing() -> None:
    said = asked(lambda task, first, second: 1.0)
    assert (said.preference, said.verdict(), said.flips) == (0.0, 0.5, True)
    assert said.position == pytest.approx(math.log(1e12), abs=1e-3)
    undecided = asked(lambda task, first, second: 0.5)
    assert (undecided.preference, undecided.position, undecided.flips) == (0.0, 0.0, False)
    half = BothOrders(1.0, 0.0)
    assert half.flips and half.verdict("tie") == 0.5
    assert log_odds_of(sigmoid(3.0)) == pytest.approx(3.0)


def test_what_cannot_be_said_is_a_failure_and_no_verdict() -> None:
    def faulty(task: Task, first: str, second: str) -> float:
        return {"1": 2.0, "2": 0.7}.get(first) or 1 / 0

    assert in_both_orders(faulty, [(TASK, "1", "2")]) == [Failed("the judge returned 2.0, which is no probability")]
    (failed,) = in_both_orders(faulty, [(TASK, "2", "3")])
    assert isinstance(failed, Failed) and "ZeroDivisionError" in failed.reason
    with pytest.raises(RewardError, match="task t: the judge returned 2"):
        JudgeTeacher(faulty)(Query(TASK, ("1", "2")))


class Forgetful:
    def log_odds(self, shown: object) -> list[float]:
        return [0.0]


def test_a_teacher_says_what_both_orders_say() -> None:
    queries = [Query(TASK, pair) for pair in (("3", "2"), ("2", "3"), ("9", "1"))]
    said = [[JudgeTeacher(biased(2.0), way)(query) for query in queries] for way in ("average", "tie", "skip")]
    assert said == [[1.0, 0.0, 1.0], [0.5, 0.5, 1.0], [None, None, 1.0]]
    teacher = JudgeTeacher(biased(2.0))
    assert [teacher(query) for query in queries] == said[0] and teacher.metrics()["labels/flips"].sum == 2
    assert teacher.metrics() == {}
    teacher(queries[0])
    teacher.load_state(teacher.state())
    assert teacher.metrics() == {}
    assert [p.scores for p in taught(queries, JudgeTeacher(biased(2.0), "skip"))] == [(1.0, 0.0)]
    with pytest.raises(ConfigurationError, match="disagreement='draw'"):
        JudgeTeacher(biased(0.0), "draw")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cannot judge pairs"):
        JudgeTeacher("judge")  # type: ignore[arg-type]
    with pytest.raises(RewardError, match="1 answers to 2 questions"):
        JudgeTeacher(Forgetful())(queries[0])  # type: ignore[arg-type]
