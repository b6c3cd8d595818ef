"""What every rollout of a tree earned: one number per leaf, NaN where there is none that may be learned from.

Inside the credit room NaN is the mark of "not there"; it never leaves the room, because every average below is taken
over what is left after those leaves are removed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from laurel.errors import ConfigurationError
from laurel.tree import Ending, FloatArray, Source, Tree


class Returns(Protocol):
    """A tree to the return of each rollout, aligned with `tree.leaves`; NaN removes a rollout from all credit."""

    def __call__(self, tree: Tree) -> FloatArray: ...


@dataclass(frozen=True)
class TotalReward:
    """R(rollout) = sum of the rewards on its segments + its score. [R], undiscounted; NaN where it failed.

    Attributes:
        discard_truncated: remove rollouts that a limit cut off, as if they had never been sampled ("overlong
            filtering", DAPO, arXiv 2503.14476, section 3.4; there they stay in the group's mean, here they leave it).

    Raises:
        TreeError: a rollout was not graded. A failed one is graded: it has no number.
    """

    discard_truncated: bool = False

    def __call__(self, tree: Tree) -> FloatArray:
        returns = np.full(len(tree.leaves), np.nan)
        for index, rollout in enumerate(tree.rollouts):
            outcome = rollout.outcome
            if outcome is not None and outcome.failed:
                continue
            if self.discard_truncated and outcome is not None and outcome.ending is Ending.TRUNCATED:
                continue
            returns[index] = rollout.reward
        return returns


@dataclass(frozen=True)
class OverlongPenalty:
    """Soft punishment of long rollouts (DAPO, arXiv 2503.14476, equation 13), added to another return.

    With n policy tokens on the rollout, limit L and cushion C:
        0 for n <= L - C;  (L - C - n) / C for L - C < n <= L;  -1 beyond.

    Attributes:
        limit: L, in policy tokens; the sampler's own limit is the natural choice.
        cushion: C, in policy tokens, 0 < C <= L.
        base: the return that the punishment is added to.
    """

    limit: int
    cushion: int
    base: Returns = field(default_factory=TotalReward)

    def __post_init__(self) -> None:
        if not 0 < self.cushion <= self.limit:
            raise ConfigurationError(
                f"The overlong cushion must lie in (0, limit], got cushion {self.cushion} and limit {self.limit}.",
                hint="the paper uses a limit of 20480 and a cushion of 4096 tokens.",
            )

    def __call__(self, tree: Tree) -> FloatArray:
        lengths = policy_lengths(tree)
        return self.base(tree) + np.clip((self.limit - self.cushion - lengths) / self.cushion, -1.0, 0.0)


def policy_lengths(tree: Tree) -> FloatArray:
    """How many policy tokens each rollout has, [R], aligned with `tree.leaves`; shared ones count for each."""
    lengths = [0.0] * len(tree.segments)
    for index, segment in enumerate(tree.segments):
        above = lengths[segment.parent] if segment.parent >= 0 else 0.0
        lengths[index] = above + (len(segment) if segment.source is Source.POLICY else 0)
    return np.array([lengths[leaf] for leaf in tree.leaves])
