"""A reward model as the reward of any online method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from laurel.policy.packed import pack
from laurel.policy.policy import Policy
from laurel.policy.read_rollouts import RolloutReader
from laurel.policy.reward_model import RewardModel, answer_ends
from laurel.tree import Score, Tree


class LearnedReward(RolloutReader):
    """reward(task, rollout) = what the reward model says of it.

        laurel.train(..., reward=LearnedReward(load_reward_model("my-reward-model"), writer=policy))

    Args:
        model: it is read as it is; nothing here changes it.
        writer: see `RolloutReader`.
    """

    def __init__(self, model: RewardModel, *, writer: Policy | None = None) -> None:
        super().__init__(model.trunk, writer=writer)
        self.model = model

    @property
    def description(self) -> dict[str, object]:
        """What a run records of it; of another model, or of one that learned on, it is another."""
        return {"type": type(self).__name__, "model": self.model.description}

    def read_for(self, writer: Policy) -> LearnedReward:
        return LearnedReward(self.model, writer=writer)

    @torch.no_grad()
    def read(self, trees: Sequence[Tree], segments: Sequence[Sequence[int]]) -> list[float]:
        packed = pack(trees, [np.zeros(len(tree.flat), np.bool_) for tree in trees], self.model.device)
        values: list[float] = self.model.rewards(packed, answer_ends(trees, segments)).double().tolist()
        return values

    def scored(self, said: Sequence[float]) -> Score:
        return Score(said[0])
