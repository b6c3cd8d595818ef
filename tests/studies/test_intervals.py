"""Statistics over seeds, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from studies.intervals import bootstrap_interval, interquartile_mean, quartiles, stratified_interval


def test_the_middle_half() -> None:
    assert interquartile_mean([4.0, 1.0, 1000.0, 3.0]) == 3.5  # 3 and 4 are in the middle
    assert interquartile_mean([0, 1, 2, 3, 100]) == pytest.approx((0.75 * 1 + 2 + 0.75 * 3) / 2.5)
    assert interquartile_mean([7.0]) == 7.0
    with pytest.raises(ValueError, match="No values"):
        interquartile_mean([])


def test_an_interval_covers_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        low, high = bootstrap_interval(draw.normal(5, 1, 40), lambda values: float(np.mean(values)))
        covered += low < 5 < high
    assert 50 <= covered <= 60


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.arange(10.0)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(np.full(5, 3.0)) == (3.0, 3.0)


def test_quartiles_of_columns() -> None:
    low, middle, high = quartiles(np.array([[0.0, 10.0], [1.0, 20.0], [2.0, 30.0]]))
    assert (low, middle, high) == ([0.5, 15.0], [1.0, 20.0], [1.5, 25.0])


def test_strata_are_not_mixed() -> None:
    """Without spread inside the strata nothing varies; mixed, the mean of 0, 0, 1, 1 would be anything."""
    assert stratified_interval([[0.0, 0.0], [1.0, 1.0]], lambda values: float(np.mean(values))) == (0.5, 0.5)
    low, high = bootstrap_interval([0.0, 0.0, 1.0, 1.0], lambda values: float(np.mean(values)))
    assert (low, high) == (0.0, 1.0)


def test_the_bootstrap_of_two_values_by_hand() -> None:
    """The minimum of a resample of (0, 1) is 1 only if both draws are: with probability 1/4, and 1/16 in two strata."""

    def least(values: object) -> float:
        return float(np.min(np.asarray(values)))

    assert stratified_interval([[0.0, 1.0]], least, level=0.42) == (0.0, 0.0)  # up to the quantile 0.71
    assert stratified_interval([[0.0, 1.0]], least, level=0.58) == (0.0, 1.0)  # up to the quantile 0.79
    assert stratified_interval([[0.0, 1.0]] * 2, least, level=0.84) == (0.0, 0.0)  # up to 0.92; 15/16 is 0.9375
    assert stratified_interval([[0.0, 1.0]] * 2, least, level=0.92) == (0.0, 1.0)  # up to 0.96


def test_the_mean_of_two_tasks_by_hand() -> None:
    """Two tasks of two seeds: of 0, 0.2, 0.8, 1 the middle half is 0.2 and 0.8."""
    assert interquartile_mean(np.concatenate([[0.0, 1.0], [0.2, 0.8]])) == pytest.approx(0.5)
