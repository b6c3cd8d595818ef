"""The control of every reward without labels: one that says nothing of the answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from laurel.errors import ConfigurationError
from laurel.tasks.task import Task
from laurel.tree import Rollout


@dataclass(frozen=True)
class RandomReward:
    """See `random_reward`."""

    runs_in_process: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = False
    probability: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.probability < 1:
            raise ConfigurationError(
                f"A coin that falls on 1 with probability {self.probability} is none.", hint="give it inside of (0, 1)."
            )

    def __call__(self, task: Task, rollout: Rollout) -> float:
        drawn = hashlib.blake2b(f"{self.seed}/{rollout.id}".encode(), digest_size=8).digest()
        return float(int.from_bytes(drawn, "big") < self.probability * 2**64)


def random_reward(*, probability: float = 0.5, seed: int = 0) -> RandomReward:
    """1 with a probability, whatever the answer is, else 0: hashed from the seed and the rollout's name.

    Its expected gradient is exactly 0 under any baseline that does not see the answer, so it must not improve anything.
    Where it does, what improves is not learned from the reward: another part of the method does it (a clip, for
    example), or the score measures something that any training brings about.

    Source: Shao et al. 2025, "Spurious Rewards", arXiv 2506.10947.

    Raises:
        ConfigurationError: for a probability outside of (0, 1).
    """
    return RandomReward(probability, seed)
