"""Coefficients that follow a measurement, computed by hand, and where they come to rest."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.errors import ConfigurationError
from laurel.objectives import DualAscent, Proportional


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (0.05, 0.5),  # on target: it stays
        (0.055, 0.5 * 1.01),  # 10 % above: 10 % of the gain of 0.1
        (0.04, 0.5 * 0.98),  # 20 % below
        (5.0, 0.5 * 1.02),  # far above counts as 20 % above
        (0.0, 0.5 * 0.98),
    ],
)
def test_proportional_by_hand(measured, expected):
    assert Proportional(target=0.05)(0.5, measured) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("measured", "expected"), [(3.0, 0.6), (2.0, 0.5), (0.0, 0.3), (-9.0, 0.0)])
def test_dual_ascent_by_hand(measured, expected):
    assert DualAscent(bound=2.0, rate=0.1)(0.5, measured) == pytest.approx(expected, abs=1e-12)


@given(st.floats(0, 1e3), st.floats(-1e3, 1e3))
def test_a_multiplier_is_never_negative(coefficient, measured):
    assert DualAscent(bound=0.5, rate=0.3)(coefficient, measured) >= 0
    assert Proportional(0.5)(coefficient, max(measured, 0.0)) >= 0


def settled(control, coefficient: float, measured) -> float:
    """Where a coefficient ends when the measurement answers it at once."""
    for _ in range(20_000):
        coefficient = control(coefficient, measured(coefficient))
    return coefficient


def test_both_come_to_rest_where_the_target_is_met():
    # A quantity that falls as its price rises: 1 / (1 + price) is 0.2 at a price of 4.
    assert settled(Proportional(0.2), 0.5, lambda c: 1 / (1 + c)) == pytest.approx(4, rel=1e-6)
    assert settled(DualAscent(0.2, 0.05), 0.0, lambda c: 1 / (1 + c)) == pytest.approx(4, rel=1e-6)


def test_a_bound_that_does_not_bind_costs_nothing():
    assert settled(DualAscent(2.0, 0.05), 3.0, lambda c: 1 / (1 + c)) == 0


@pytest.mark.parametrize("make", [Proportional, lambda x: Proportional(1.0, x), lambda x: DualAscent(1, x)])
@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_nonsense_is_refused(make, wrong):
    with pytest.raises(ConfigurationError):
        make(wrong)


def test_the_rule_says_what_is_done():
    assert Proportional(0.02).rule("b", "KL") == "b <- b (1 + 0.1 clip(KL/0.02 - 1, +-0.2))"
    assert DualAscent(50, 0.001).rule("l", "cost") == "l <- max(0, l + 0.001 (cost - 50))"
