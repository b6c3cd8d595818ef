"""Only what reached the threshold carries loss, and all of it the same."""

from __future__ import annotations

import numpy as np
import pytest

from laurel.credit import Accepted
from laurel.errors import ConfigurationError
from laurel.objectives import PromptMean
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree


def fan(*scores: float | Failed) -> Tree:
    """Answers of 1, 2, 3, ... tokens."""
    segments = [Segment(Source.PROMPT, np.array([1, 2]), -1)]
    for place, score in enumerate(scores):
        ended = Outcome(Ending.TERMINATED, "eos", score if isinstance(score, Failed) else Score(score))
        segments.append(Segment(Source.POLICY, np.arange(place + 1), 0, outcome=ended))
    return Tree("t", "t", tuple(segments))


def test_accepted_by_hand() -> None:
    """Scores 1, 0.5, failed, 1 over 1, 2, 3, 4 tokens: the first and the last answer are learned from."""
    tree = fan(1.0, 0.5, Failed("died"), 1.0)
    (credit,) = Accepted()([tree])
    kept = [False] * 2 + [True] + [False] * 5 + [True] * 4
    assert credit.mask.tolist() == kept and credit.advantages.tolist() == [float(one) for one in kept]
    assert Accepted().accepted(tree).tolist() == [True, False, False, True]
    assert Accepted(threshold=0.5).accepted(tree).tolist() == [True, True, False, True]


def test_a_prompt_without_an_accepted_answer_says_nothing_and_the_others_weigh_the_same() -> None:
    trees = [fan(1.0, 0.0, 1.0), fan(0.0, 0.0), fan(0.0, 1.0)]
    credits = Accepted()(trees)
    assert [credit.carries_signal for credit in credits] == [True, False, True]
    weights = PromptMean()(trees, [credit.mask for credit in credits])
    assert [some.sum() for some in weights] == [0.5, 0.0, 0.5]
    assert weights[0][credits[0].mask].tolist() == [0.125] * 4 and weights[2][credits[2].mask].tolist() == [0.25] * 2


def test_a_threshold_is_a_number() -> None:
    with pytest.raises(ConfigurationError, match="threshold must be finite"):
        Accepted(float("nan"))
