"""Credit for what was accepted, and for nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from laurel.credit.credit import Credit
from laurel.credit.fans import spread
from laurel.credit.returns import Returns, TotalReward
from laurel.errors import ConfigurationError
from laurel.tree import BoolArray, Tree


@dataclass(frozen=True)
class Accepted:
    """Advantage 1 for every policy token of a rollout whose return reaches the threshold; all others carry no loss.

    Attributes:
        threshold: the least return that is accepted.
        returns: what a rollout earned.
    """

    threshold: float = 1.0
    returns: Returns = field(default_factory=TotalReward)

    def __post_init__(self) -> None:
        if not np.isfinite(self.threshold):
            raise ConfigurationError(f"threshold must be finite, got {self.threshold!r}.", hint="1 is full marks.")

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        return [spread(tree, np.ones(len(tree.segments)), self.accepted(tree)) for tree in trees]

    def accepted(self, tree: Tree) -> BoolArray:
        """Which rollouts are, [R]; a failed one is not."""
        with np.errstate(invalid="ignore"):
            reached: BoolArray = self.returns(tree) >= self.threshold
        return reached
