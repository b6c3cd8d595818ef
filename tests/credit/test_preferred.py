"""Credit of compared answers, by hand: who takes part, and with which sign."""

from __future__ import annotations

import numpy as np
import pytest

from laurel.credit import Credit, Preferred, Thumbs
from laurel.tree import MISMATCHED, Ending, Failed, Outcome, Score, Segment, Source, Tree


def fan(*scores: float | Failed) -> Tree:
    """A prompt of two tokens with answers of two tokens."""
    answers = [
        Segment(
            Source.POLICY,
            np.array([5, 6]),
            0,
            outcome=Outcome(Ending.TERMINATED, "given", score if isinstance(score, Failed) else Score(score)),
        )
        for score in scores
    ]
    return Tree("t", "t", (Segment(Source.PROMPT, np.array([1, 2]), -1), *answers))


def per_answer(credit: Credit) -> list[float | None]:
    """The advantage of each answer; None: it does not take part."""
    told: list[float | None] = []
    for start in range(2, len(credit.mask), 2):
        assert credit.mask[start] == credit.mask[start + 1]
        told.append(float(credit.advantages[start]) if credit.mask[start] else None)
    assert not credit.mask[:2].any()
    return told


BROKEN = Failed("broken")


@pytest.mark.parametrize(
    ("scores", "everyone", "extremes"),
    [
        ((1.0, 0.0), [0.5, -0.5], [0.5, -0.5]),
        ((2.0, 1.0, 0.0), [1.0, 0.0, -1.0], [1.0, None, -1.0]),
        ((0.5, 0.5), [None, None], [None, None]),
        ((1.0, BROKEN, 0.0), [0.5, None, -0.5], [0.5, None, -0.5]),
        ((1.0, BROKEN), [None, None], [None, None]),
        ((BROKEN, BROKEN), [None, None], [None, None]),
        ((1.0, 1.0, 0.0, 0.0), [0.5, 0.5, -0.5, -0.5], [0.5, None, -0.5, None]),
    ],
)
def test_preferred(
    scores: tuple[float | Failed, ...], everyone: list[float | None], extremes: list[float | None]
) -> None:
    assert per_answer(Preferred()([fan(*scores)])[0]) == everyone
    assert per_answer(Preferred(extremes=True)([fan(*scores)])[0]) == extremes


def test_thumbs_with_answers_to_other_prompts() -> None:
    tree = fan(1.0, 0.0, 0.5, MISMATCHED, BROKEN)
    assert per_answer(Thumbs()([tree])[0]) == [1.0, -1.0, None, 0.0, None]
    assert per_answer(Thumbs(threshold=0.75)([fan(1.0, 0.5)])[0]) == [1.0, -1.0]
    assert tree.rollouts[3].outcome is not None and tree.rollouts[3].outcome.left_out
