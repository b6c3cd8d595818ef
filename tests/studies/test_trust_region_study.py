"""The study of the trust region, in short: what it claims holds on three data sets."""

from __future__ import annotations

import numpy as np
import pytest

from studies.trust_region import DELTA, MEASURED, DataSets, clip_course, trust_region_steps


def test_the_clip_lets_go_the_stop_and_the_region_hold() -> None:
    data = DataSets.drawn(3)
    free, stopped = clip_course(data, 0.02, epochs=200), clip_course(data, 0.02, stop_at=0.02, epochs=200)
    assert len(free.kl) == sum(epoch <= 200 for epoch in MEASURED)
    assert min(free.kl[-1]) > 0.1 and max(free.greatest_ratio[-1]) > 1.5
    assert max(stopped.kl[-1]) < 0.08
    np.testing.assert_array_equal(stopped.kl[-1], stopped.kl[-5])  # it stands still
    region = trust_region_steps(data)
    assert region["greatest_state_kl"] <= DELTA and region["refused"] == 0
    assert region["data_sets_whose_expected_return_rose"] == 3
    assert region["greatest_sequence_kl"] < 2 * DELTA  # at most two tokens


def test_padding_weighs_nothing() -> None:
    data = DataSets.drawn(2)
    assert data.weights.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert bool((data.weights == 0).any())
    moved = data.start + 0.1
    assert data.log_probs(moved).shape == data.weights.shape
    assert float(data.state_kl(0, data.old)) == pytest.approx(0, abs=1e-15)
