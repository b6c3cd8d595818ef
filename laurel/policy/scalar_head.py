"""Numbers read from a trunk's hidden states by a linear head: what critics and reward models have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from laurel.errors import PolicyError
from laurel.policy.packed import Packed
from laurel.policy.policy import Policy
from laurel.policy.tree_attention import TreeAttention


class ScalarHead:
    """A trunk and the parameters of its head, which a subclass names and applies.

    Attributes:
        role: what it is called in errors.
        trunk: what hidden states are read from.
        learns_trunk: whether the trunk learns with the head.
        read_by: the parameters of the head, by name.
    """

    role: ClassVar[str]

    def __init__(self, trunk: Policy, *, learns_trunk: bool) -> None:
        self.trunk = trunk
        self.learns_trunk = learns_trunk
        self.read_by: dict[str, Parameter] = {}

    @property
    def device(self) -> torch.device:
        """Where the trunk is, and the head with it."""
        return self.trunk.device

    def zeros(self, *shape: int) -> Parameter:
        """A parameter of the head, in float32 or better."""
        precise = torch.promote_types(self.trunk.dtype, torch.float32)
        return Parameter(torch.zeros(shape, dtype=precise, device=self.trunk.device))

    @property
    def width(self) -> int:
        """D, of a hidden state."""
        return int(self.trunk.model.get_output_embeddings().weight.shape[1])

    def hidden_states(self, packed: Packed, rows: Tensor | None) -> Tensor:
        """[T, D] after each token of a packed row, or [R, D] after those at `rows`; differentiable where it learns.

        Raises:
            PolicyError: when a path is longer than the context of the trunk.
        """
        if packed.layout.longest_path > self.trunk.context_length:
            raise PolicyError(
                f"A path of {packed.layout.longest_path} tokens exceeds the {self.role}'s context of "
                f"{self.trunk.context_length}.",
                hint=f"sample with a smaller budget, or give the {self.role} a model with a longer context.",
            )
        with torch.set_grad_enabled(self.learns_trunk and torch.is_grad_enabled()):
            return self.trunk.hidden_states(packed.tokens, packed.positions, TreeAttention.of(packed), rows)

    def trainable_parameters(self) -> dict[str, Parameter]:
        """Name to parameter, sorted by name; without the language-model head, which is not read."""
        own = dict(self.read_by)
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
            raise PolicyError(
                f"The saved {self.role} does not fit this one.", hint=f"resume with the {self.role} of the run."
            )
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
