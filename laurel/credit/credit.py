"""What credit is: an advantage for every token that may carry loss, and who computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from laurel.tree import BoolArray, FloatArray, Tree


@dataclass(frozen=True)
class Credit:
    """What one tree teaches, aligned with `tree.flat`.

    Attributes:
        advantages: [T] float64; 0 where `mask` is False.
        mask: [T] which tokens carry loss: policy tokens (never others) with at least one rollout below that did not
            fail.
        value_targets: [T] what a critic should have said before each masked token, read at its parent token; None
            from rules without a critic.
        values: [T] what the critic did say there, before any update; None where none was asked.
        reference_log_ratios: [T] log pi - log ref of the tokens that a penalty was taken off for, before any update,
            NaN elsewhere; None where the reward has no such penalty.
    """

    advantages: FloatArray
    mask: BoolArray
    value_targets: FloatArray | None = None
    values: FloatArray | None = None
    reference_log_ratios: FloatArray | None = None

    @property
    def carries_signal(self) -> bool:
        """Whether any token has a non-zero advantage; a group whose rollouts all score the same has none."""
        return bool(np.any(self.advantages[self.mask] != 0))


class CreditRule(Protocol):
    """Trees to per-token advantages. A rule sees all trees of a step, because some normalise over the batch."""

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]: ...
