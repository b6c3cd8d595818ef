"""One number spread over parts: by hand, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credit import redistributed
from laurel.errors import ConfigurationError


def test_by_hand() -> None:
    assert redistributed(6.0, np.array([1.0, 2.0, 0.0])).tolist() == [2.0, 4.0, 0.0]
    assert redistributed(-6.0, np.array([1.0, 1.0])).tolist() == [-3.0, -3.0]
    assert redistributed(6.0, np.zeros(3)).tolist() == [2.0, 2.0, 2.0]
    assert redistributed(1.5, np.array([5e-324])).tolist() == [1.5]
    assert redistributed(6.0, np.array([1.2e308, 1.2e308])).tolist() == [3.0, 3.0]


@given(st.floats(-1e3, 1e3), st.lists(st.floats(0, 1), min_size=1, max_size=9), st.floats(0.01, 100))
def test_the_sum_stays_and_only_proportions_count(total: float, weights: list[float], scale: float) -> None:
    importance = np.array(weights)
    shares = redistributed(total, importance)
    assert shares.sum() == pytest.approx(total, abs=1e-9)
    if importance.min() > 1e-200:
        np.testing.assert_allclose(redistributed(total, importance * scale), shares, atol=1e-9)


@pytest.mark.parametrize("wrong", [[], [-1.0, 2.0], [np.nan], [np.inf, 1.0]])
def test_what_is_no_importance(wrong: list[float]) -> None:
    with pytest.raises(ConfigurationError, match="no importances"):
        redistributed(1.0, np.array(wrong))
