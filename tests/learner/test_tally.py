"""Means stay means of tokens, maxima stay maxima, however they are put together."""

import pytest
import torch

from laurel.learner.tally import Tally
from laurel.metrics import Metric, merge


def test_means_add_up_over_ragged_parts_and_maxima_do_not() -> None:
    tally = Tally()
    for values in ([1.0, 2.0, 3.0], [10.0], []):
        tally.mean("size", torch.tensor(values))
        tally.greatest("size", torch.tensor(values))
    assert tally.metrics() == {"size": Metric(16.0, 4.0), "greatest_size": Metric(10.0, 1.0)}


def test_a_weighted_mean_counts_the_weights() -> None:
    tally = Tally()
    tally.mean("clipped", torch.tensor([1.0, 0.0]), torch.tensor([0.25, 0.5]))
    tally.mean("clipped", torch.tensor([1.0]), torch.tensor([0.25]))
    assert tally.metrics()["clipped"].mean == pytest.approx(0.5)


def test_float32_values_are_summed_in_float64() -> None:
    # 2^24 + 1 is no float32.
    tally = Tally()
    tally.mean("large", torch.tensor([2.0**24, 1.0]))
    assert tally.metrics()["large"].sum == 2.0**24 + 1


def test_nothing_gathered_is_no_metric() -> None:
    assert Tally().metrics() == {}


def test_merging_keeps_the_greater_of_maxima_and_adds_the_rest() -> None:
    parts = [
        {"greatest_lag": Metric(3.0, 1.0), "ratio/greatest_log": Metric(0.1, 1.0), "lag": Metric(4.0, 8.0)},
        {"greatest_lag": Metric(2.0, 1.0), "ratio/greatest_log": Metric(0.5, 1.0), "lag": Metric(1.0, 2.0)},
    ]
    assert merge(parts) == {
        "greatest_lag": Metric(3.0, 1.0),
        "ratio/greatest_log": Metric(0.5, 1.0),
        "lag": Metric(5.0, 10.0),
    }
