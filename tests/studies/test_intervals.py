"""Statistics over seeds, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from studies.intervals import bootstrap_interval, interquartile_mean, quartiles


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
