"""What a tree's parts refuse, and that nobody can change them afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from laurel.errors import TreeError
from laurel.tree import Score, Support


def test_a_support_is_a_read_only_copy() -> None:
    ids = np.array([7, 9])
    support = Support(ids, np.array([0, 2]))
    ids[0] = 1
    assert support.ids.tolist() == [7, 9]
    for array in (support.ids, support.offsets):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5


@pytest.mark.parametrize("offsets", [[], [1, 2], [0, 1], [0, 3], [0, 2, 1, 2], [[0, 2]]])
def test_offsets_of_a_support_rise_from_zero_to_the_number_of_ids(offsets: list[int]) -> None:
    with pytest.raises(TreeError, match="offset"):
        Support(np.array([7, 9]), np.array(offsets))


@pytest.mark.parametrize("value", [None, "1", float("nan"), float("inf"), [1.0], 1j])
def test_a_score_is_one_finite_number(value: object) -> None:
    with pytest.raises(TreeError, match="finite number"):
        Score(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1, 0.5, True, np.float32(0.5), np.int64(2)])
def test_numbers_of_any_kind_are_scores(value: float) -> None:
    assert Score(value).value == value
