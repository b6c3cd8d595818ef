"""Comparing siblings: hand-computed values, identities, and no division by zero anywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credit import leave_one_out, sibling_mean, standardised

RULES = [sibling_mean, leave_one_out, standardised]
returns = st.lists(st.floats(-100, 100), min_size=0, max_size=9).map(lambda values: np.array(values, dtype=np.float64))


def test_hand_computed():
    # Mean of 1, 0, 0, 1, 3 is 1. Without oneself: (5 - R) / 4. Squares about the mean: 0 1 1 0 4, sum 6.
    group = np.array([1.0, 0, 0, 1, 3])
    assert sibling_mean(group).tolist() == [0, -1, -1, 0, 2]
    np.testing.assert_allclose(leave_one_out(group), [0, -1.25, -1.25, 0, 2.5], atol=1e-15)
    np.testing.assert_allclose(standardised(group, epsilon=0), np.array([0, -1, -1, 0, 2]) / np.sqrt(6 / 5))
    np.testing.assert_allclose(standardised(group, ddof=1, epsilon=0), np.array([0, -1, -1, 0, 2]) / np.sqrt(6 / 4))
    np.testing.assert_allclose(standardised(group, epsilon=1.0), np.array([0, -1, -1, 0, 2]) / (np.sqrt(6 / 5) + 1))


@given(returns)
def test_leave_one_out_is_the_mean_of_the_others(group):
    expected = [group[i] - np.delete(group, i).mean() if len(group) > 1 else 0.0 for i in range(len(group))]
    np.testing.assert_allclose(leave_one_out(group), expected, atol=1e-9)


@given(returns)
def test_leave_one_out_rescales_the_sibling_mean(group):
    size = len(group)
    np.testing.assert_allclose(leave_one_out(group) * (size - 1) / max(size, 1), sibling_mean(group), atol=1e-9)


@given(returns, st.randoms(use_true_random=False))
@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_siblings_is_irrelevant(rule, group, random):
    order = list(range(len(group)))
    random.shuffle(order)
    np.testing.assert_allclose(rule(group[order]), rule(group)[order], rtol=1e-6, atol=1e-9)


@given(returns, st.floats(-50, 50))
@pytest.mark.parametrize("rule", RULES)
def test_advantages_sum_to_zero_and_ignore_a_shift(rule, group, shift):
    advantages = rule(group)
    assert np.isfinite(advantages).all()
    assert abs(advantages.sum()) <= 1e-6 * max(1.0, np.abs(advantages).sum())
    if len(group) > 1 and np.ptp(group) > 1e-3:
        np.testing.assert_allclose(rule(group + shift), advantages, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "group", [[], [3.0], [0.1] * 3, [0.0] * 8, [0.1 + 0.2, 0.3], [-1e9] * 2, [1e300, 1e300]], ids=str
)
def test_constant_groups_give_exact_zeros(rule, group):
    assert rule(np.array(group, dtype=np.float64)).tolist() == [0.0] * len(group)


def test_standardised_has_unit_deviation():
    group = np.array([0.0, 1, 1, 5, -3])
    assert standardised(group, epsilon=0).std() == pytest.approx(1.0, abs=1e-12)
    assert standardised(group, ddof=1, epsilon=0).std(ddof=1) == pytest.approx(1.0, abs=1e-12)
