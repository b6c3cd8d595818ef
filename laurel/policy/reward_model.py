"""A reward model: one number for an answer, read at its last token by a linear head without a constant.

    reward(answer) = head_weight . hidden(last token of the answer)

The hidden states come from a trunk of its own: a snapshot of the policy, or another model. Answers below one prompt
share its computation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from laurel.policy.critic import copied
from laurel.policy.load import load
from laurel.policy.packed import Packed
from laurel.policy.policy import Policy
from laurel.policy.scalar_head import ScalarHead
from laurel.tree import IntArray, Tree

HEAD = "reward_head.weight"
"""What the head is called among the tensors of a reward model."""


class RewardModel(ScalarHead):
    """Built by `reward_model_for`; at first every reward is 0. Its trunk also says how texts become tokens.

    Attributes:
        head: [1, D] the weight.
    """

    role = "reward model"

    def __init__(self, trunk: Policy, *, learns_trunk: bool = True) -> None:
        super().__init__(trunk, learns_trunk=learns_trunk)
        self.head = self.zeros(1, self.width)
        self.read_by = {HEAD: self.head}

    @property
    def description(self) -> dict[str, str]:
        """What a run records of it: the trunk's name, and SHA-256 over all weights as they are now."""
        digest = hashlib.sha256()
        for name, tensor in [(HEAD, self.head), *sorted(self.trunk.model.named_parameters())]:
            plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(f"{name}/{tensor.dtype}/{list(tensor.shape)}\n".encode() + plain.numpy().tobytes())
        return {"type": "RewardModel", "trunk": self.trunk.name, "fingerprint": digest.hexdigest()}

    def rewards(self, packed: Packed, ends: IntArray) -> Tensor:
        """[R] the rewards of the answers that end at the tokens `ends` [R] of a packed row; differentiable.

        Raises:
            PolicyError: when a path is longer than the context of the trunk.
        """
        rows = torch.from_numpy(ends).to(self.device)
        return self.hidden_states(packed, rows).to(self.head.dtype) @ self.head[0]


def reward_model_for(policy: Policy, *, model: str | None = None, learns_trunk: bool = True) -> RewardModel:
    """A fresh reward model for answers to the policy's prompts; every reward is 0.

    Args:
        policy: what the trunk starts as, in its present state; later updates of the policy do not reach it.
        model: hub name or directory of the trunk instead; it may read other tokens than the policy writes.
        learns_trunk: False: only the head learns, and the trunk stays the snapshot that it is.

    Raises:
        PolicyError: if the model cannot be loaded.
    """
    trunk = copied(policy, "reward model") if model is None else load(model, device=policy.device)
    return RewardModel(trunk, learns_trunk=learns_trunk)


def answer_ends(trees: Sequence[Tree], leaves: Sequence[Sequence[int]]) -> IntArray:
    """[R] the last tokens of the rollouts that end in these leaves of each tree, in the row that `pack` makes."""
    offsets = np.cumsum([0, *(len(tree.flat) for tree in trees)])[:-1]
    ends = [
        offset + tree.flat.ends[np.asarray(chosen, np.int64)] - 1
        for offset, tree, chosen in zip(offsets, trees, leaves, strict=True)
    ]
    return np.concatenate([np.empty(0, np.int64), *ends])
