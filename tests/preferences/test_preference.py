"""The one form of all judgements: what it refuses, and scores from ranks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.errors import TaskError
from laurel.preferences import Preference
from laurel.preferences.preference import scores_of_ranks


@pytest.mark.parametrize(
    ("answers", "scores", "message"),
    [
        ((), (), "0 answers"),
        (("a",), (1.0, 2.0), "1 answers and 2 scores"),
        (("a",), (float("nan"),), "not all finite"),
    ],
)
def test_a_preference_that_cannot_be(answers: tuple[str, ...], scores: tuple[float, ...], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Preference("id", "prompt", answers=answers, scores=scores)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6))
def test_scores_turn_ranks_around_and_share_out_every_comparison(ranks: list[int]) -> None:
    scores = scores_of_ranks(ranks)
    for one, score in zip(ranks, scores, strict=True):
        for other, compared in zip(ranks, scores, strict=True):
            assert (one < other) == (score > compared)
    assert sum(scores) == len(ranks) * (len(ranks) - 1) / 2
