"""A reward model: one number for an answer, read at its last token by a linear head without a constant.

    reward(answer) = head_weight . hidden(last token of the answer)

The hidden states come from a trunk of its own: a snapshot of the policy, or another model. Answers below one prompt
share its computation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from laurel.errors import PolicyError
from laurel.policy.critic import copied
from laurel.policy.load import load
from laurel.policy.packed import Packed
from laurel.policy.policy import Policy
from laurel.policy.tree_attention import TreeAttention
from laurel.tree import IntArray, Tree

HEAD = "reward_head.weight"
"""What the head is called among the tensors of a reward model."""


class RewardModel:
    """Built by `reward_model_for`; at first every reward is 0.

    Attributes:
        trunk: what hidden states are read from; it also says how prompts and answers become tokens.
        learns_trunk: whether the trunk learns with the head.
        head: [1, D] the weight.
    """

    def __init__(self, trunk: Policy, *, learns_trunk: bool = True) -> None:
        self.trunk = trunk
        self.learns_trunk = learns_trunk
        width = trunk.model.get_output_embeddings().weight.shape[1]
        precise = torch.promote_types(trunk.dtype, torch.float32)
        self.head = Parameter(torch.zeros(1, width, dtype=precise, device=trunk.device))

    @property
    def device(self) -> torch.device:
        return self.trunk.device

    def rewards(self, packed: Packed, ends: IntArray) -> Tensor:
        """[R] the rewards of the answers that end at the tokens `ends` [R] of a packed row; differentiable.

        Raises:
            PolicyError: when a path is longer than the context of the trunk.
        """
        if packed.layout.longest_path > self.trunk.context_length:
            raise PolicyError(
                f"A path of {packed.layout.longest_path} tokens exceeds the reward model's context of "
                f"{self.trunk.context_length}.",
                hint="leave this answer out, or take a reward model with a longer context.",
            )
        rows = torch.from_numpy(ends).to(self.device)
        with torch.set_grad_enabled(self.learns_trunk and torch.is_grad_enabled()):
            hidden = self.trunk.hidden_states(packed.tokens, packed.positions, TreeAttention.of(packed), rows)
        return hidden.to(self.head.dtype) @ self.head[0]

    def trainable_parameters(self) -> dict[str, Parameter]:
        """Name to parameter, sorted by name; without the language-model head, which rewards do not pass through."""
        own = {HEAD: self.head}
        if self.learns_trunk:
            unread = set(map(id, self.trunk.model.get_output_embeddings().parameters()))
            unread -= set(map(id, self.trunk.model.get_input_embeddings().parameters()))
            trained = self.trunk.trainable_parameters()
            own |= {name: parameter for name, parameter in trained.items() if id(parameter) not in unread}
        return dict(sorted(own.items()))

    def tensors(self) -> dict[str, Tensor]:
        """What trains, by name, for checkpoints: views of the live weights."""
        return {name: parameter.detach() for name, parameter in self.trainable_parameters().items()}

    @torch.no_grad()
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave.

        Raises:
            PolicyError: when names or shapes are others; nothing is changed then.
        """
        own = self.tensors()
        shapes = {name: tensor.shape for name, tensor in own.items()}
        if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
            raise PolicyError("The saved reward model does not fit this one.", hint="resume with that of the run.")
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


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
