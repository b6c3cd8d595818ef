"""Calibration: by hand, at the edges of the bins, and zero where confidence is what comes true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.errors import ConfigurationError
from laurel.preferences import calibration


def test_by_hand() -> None:
    found = calibration([0.8, 0.8, 0.6], [1, 1, 0])
    assert found.error == pytest.approx(1 / 3)
    assert sum(found.counts) == 3 and len(found.edges) == 11
    assert found.accuracy[7] == 1.0 and found.counts[7] == 2
    assert np.isnan(found.accuracy[0])


def test_a_bin_holds_its_upper_edge() -> None:
    assert calibration([0.0, 0.5, 1.0], [0, 1, 1], bins=2).counts == (2, 1)


def test_nothing_has_no_error() -> None:
    assert np.isnan(calibration([], []).error)


def test_what_comes_true_as_often_as_said_is_calibrated() -> None:
    confidence = np.repeat([0.55, 0.75, 0.95], 20)
    correct = np.concatenate([np.arange(20) < 20 * share for share in (0.55, 0.75, 0.95)])
    assert calibration(confidence.tolist(), correct.tolist()).error == pytest.approx(0, abs=1e-12)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_one_bin_compares_the_means(pairs: list[tuple[float, bool]]) -> None:
    confidence, correct = (np.array(part, float) for part in zip(*pairs, strict=True))
    found = calibration(confidence.tolist(), correct.tolist(), bins=1)
    assert found.error == pytest.approx(abs(confidence.mean() - correct.mean()), abs=1e-12)
    # Cutting a bin can only bring differences to light.
    assert calibration(confidence.tolist(), correct.tolist(), bins=7).error >= found.error - 1e-12


@pytest.mark.parametrize(("confidence", "correct", "bins"), [([1.2], [1], 10), ([0.5], [], 10), ([0.5], [1], 0)])
def test_nonsense_is_refused(confidence: list[float], correct: list[float], bins: int) -> None:
    with pytest.raises(ConfigurationError, match="makes no sense"):
        calibration(confidence, correct, bins=bins)
