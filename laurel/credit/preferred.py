"""Credit for answers that are compared with each other: who takes part, and which of two is the better.

An objective over whole rollouts reads the advantage of a rollout at its last token. It is the score minus the mean of
those that take part, so that its sign says up or down to whoever looks at the tree, and differences say the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from laurel.credit.credit import Credit
from laurel.credit.fans import segment_values, spread
from laurel.credit.returns import Returns, TotalReward
from laurel.tree import MISMATCHED, Tree


@dataclass(frozen=True)
class Preferred:
    """advantage = score - mean of the prompt's scores. Where all score the same nobody takes part.

    Example: scores (1, 0) give (+0.5, -0.5), one pair; (2, 1, 0) give (+1, 0, -1), three pairs.

    Attributes:
        extremes: only the best and the worst answer of a prompt take part (of equal ones the first), one pair.
    """

    extremes: bool = False
    returns: Returns = field(default_factory=TotalReward)

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        credits = []
        for tree in trees:
            scores = self.returns(tree)
            if np.isnan(scores).all() or np.nanmin(scores) == np.nanmax(scores):
                scores = np.full_like(scores, np.nan)
            elif self.extremes:
                ends = [int(np.nanargmax(scores)), int(np.nanargmin(scores))]
                scores = np.where(np.isin(np.arange(len(scores)), ends), scores, np.nan)
            live = ~np.isnan(scores)
            mean = float(scores[live].mean()) if live.any() else 0.0
            credits.append(spread(tree, np.nan_to_num(segment_values(tree, scores) - mean), live))
        return credits


@dataclass(frozen=True)
class Thumbs:
    """advantage = +1 for a score above the threshold, -1 below; at it, nothing. Answers to other prompts, which are
    there for an estimate alone (`laurel.tree.MISMATCHED`), take part with advantage 0.
    """

    threshold: float = 0.5
    returns: Returns = field(default_factory=TotalReward)

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        credits = []
        for tree in trees:
            signs = np.sign(self.returns(tree) - self.threshold)
            signs[signs == 0] = np.nan
            outcomes = [tree.segments[leaf].outcome for leaf in tree.leaves]
            other = np.array([outcome is not None and outcome.score == MISMATCHED for outcome in outcomes])
            signs[other] = 0.0
            credits.append(spread(tree, np.nan_to_num(segment_values(tree, signs)), ~np.isnan(signs)))
        return credits
