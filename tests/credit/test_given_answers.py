"""Answers beside the turns of a rollout carry loss, and what was played does not, whoever played it."""

from __future__ import annotations

import numpy as np

from laurel.credit import GivenAnswers
from laurel.tree import Sampling, Segment, Source, Tree


def test_only_what_nobody_drew_and_nobody_played() -> None:
    """Prompt, a drawn turn, an observation, an expert's turn; answers of 2 and 1 tokens beside the two turns."""
    tree = Tree.build(
        "t",
        "task",
        [
            Segment(Source.PROMPT, np.array([1, 2]), -1),
            Segment(Source.POLICY, np.array([3, 4]), 0, sampling=Sampling()),
            Segment(Source.ENVIRONMENT, np.array([5]), 1),
            Segment(Source.EXPERT, np.array([6]), 2),
            Segment(Source.POLICY, np.array([7, 8]), 0),
            Segment(Source.POLICY, np.array([6]), 2),
        ],
    )
    (credit,) = GivenAnswers()([tree])
    assert tree.flat.tokens.tolist() == [1, 2, 3, 4, 5, 6, 6, 7, 8]
    assert credit.mask.tolist() == [False] * 6 + [True] * 3
    assert credit.advantages.tolist() == [0.0] * 6 + [1.0] * 3
