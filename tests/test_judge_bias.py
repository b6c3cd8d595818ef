"""The bias of scripted judges is measured as it was put in."""

import math

import numpy as np
import pytest

import laurel
from laurel.errors import ConfigurationError, RewardError
from laurel.evaluation import interval, wilson
from laurel.preferences import Query, pairs
from laurel.preferences.both_orders import sigmoid
from laurel.tasks import Task

GAPS = (0.5, 1.0, 1.5, 2.0, 3.0)
QUERIES = [Query(Task(f"t{number}", f"prompt {number}"), (str(gap), "0")) for number, gap in enumerate(GAPS)]


def biased(bias: float):  # type: ignore[no-untyped-def]
    return lambda task, first, second: sigmoid(float(first) - float(second) + bias)


@pytest.mark.parametrize("bias", [-4.0, -0.7, 0.0, 1.2])
def test_an_added_bias_is_found(bias: float) -> None:
    found = laurel.measure_judge(biased(bias), QUERIES)
    assert (found.pairs, found.prompts, found.failed, found.right) == (5, 5, 0, None)
    assert found.position[0] == pytest.approx(bias, abs=1e-9)
    shares = np.array([(sigmoid(gap + bias) + sigmoid(-gap + bias)) / 2 for gap in GAPS])
    np.testing.assert_allclose(np.array(found.first) + 0.5, interval(shares))
    assert found.first[0] == pytest.approx(
        np.mean([math.sinh(bias) / (2 * (math.cosh(gap) + math.cosh(bias))) for gap in GAPS])
    )
    turned = sum(gap < abs(bias) for gap in GAPS)
    np.testing.assert_allclose(found.flips, wilson(turned, 5))
    assert found.metrics["judge/position"].mean == pytest.approx(bias)


def test_known_sides_and_prompts_that_count_once() -> None:
    rows = [
        {"prompt": "one", "chosen": "3", "rejected": "2"},
        {"prompt": "one", "chosen": "1", "rejected": "2"},  # the judge says otherwise
        {"prompt": "two", "chosen": "5", "rejected": "1"},
        {"prompt": "three", "chosen": "4", "rejected": "many"},  # it cannot judge that
    ]
    found = laurel.measure_judge(biased(1.5), pairs(rows=rows))
    assert (found.pairs, found.prompts, found.failed) == (3, 2, 1)
    assert found.right is not None and found.right[0] == 0.75  # a half of prompt one, all of prompt two
    assert found.flips[0] == 0.5  # both of prompt one, differences of 1 below a bias of 1.5; none of prompt two
    text = str(found)
    assert "3 pairs of 2 prompts" in text and "log-odds for the first place: +1.500" in text
    assert "1 pairs could not be judged" in text and "could not convert string to float" in text


def test_ties_say_nothing_of_who_is_right_and_an_undecided_judge_is_half_right() -> None:
    tie = pairs(rows=[{"prompt": "one", "chosen": "a", "rejected": "b"}]).tasks[0]
    undecided = laurel.measure_judge(lambda task, first, second: 0.9, [tie])
    assert undecided.right == pytest.approx((0.5, *undecided.right[1:])) and undecided.flips[0] == 1.0  # type: ignore[index]
    ranked = laurel.preferences.rankings(rows=[{"prompt": "one", "answers": ["1", "2"], "r": [1, 1]}], ranks="r")
    assert laurel.measure_judge(biased(0.0), ranked).right is None


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(RewardError, match="as there is none"):
        laurel.measure_judge(biased(0.0), [])
    with pytest.raises(RewardError, match="which is no probability"):
        laurel.measure_judge(lambda task, first, second: 7.0, QUERIES)
    with pytest.raises(ConfigurationError, match="cannot judge pairs"):
        laurel.measure_judge("my-judge", QUERIES)  # type: ignore[arg-type]
