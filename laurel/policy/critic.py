"""A critic: one number after every token, read from hidden states by a linear head that starts at 0.

    value(t) = head_weight . hidden(t) + head_bias          the value of the state after token t

The hidden states come from a trunk: a model of its own (a copy of the policy, or another one that reads the same
tokens), which learns with the head; or the policy's own, which the critic only reads.
"""

from __future__ import annotations

import copy

from torch import Tensor

from laurel.errors import ConfigurationError
from laurel.policy.load import load
from laurel.policy.packed import Packed
from laurel.policy.policy import Policy
from laurel.policy.same_tokens import check_same_tokens
from laurel.policy.scalar_head import ScalarHead

KINDS = ("own", "shared")
_HEAD = "value_head."


class Critic(ScalarHead):
    """Values of states. Built by `critic_for`."""

    role = "critic"

    def __init__(self, trunk: Policy, *, learns_trunk: bool) -> None:
        super().__init__(trunk, learns_trunk=learns_trunk)
        self._weight, self._bias = self.zeros(self.width), self.zeros()
        self.read_by = {f"{_HEAD}weight": self._weight, f"{_HEAD}bias": self._bias}

    def values(self, packed: Packed, rows: Tensor | None = None) -> Tensor:
        """The value after each token of a packed row, [T], or after the tokens at `rows` [R] alone; differentiable.

        Raises:
            PolicyError: when a path is longer than the context of the trunk.
        """
        return self.hidden_states(packed, rows).to(self._weight.dtype) @ self._weight + self._bias


def critic_for(policy: Policy, *, kind: str = "own", model: str | None = None) -> Critic:
    """A fresh critic for what `policy` writes; every value is 0.

    Args:
        policy: whose tokens are read.
        kind: "own" (a trunk that learns with the head) or "shared" (the policy's hidden states are read as they are).
        model: hub name or directory of the trunk of its own; None: a copy of the policy.

    Raises:
        ConfigurationError: another kind, or a model for a shared trunk.
        PolicyError: if the model cannot be loaded, or reads other tokens.
    """
    if kind not in KINDS or (kind == "shared" and model is not None):
        raise ConfigurationError(
            f"A critic of kind {kind!r} with model {model!r} is none.",
            hint="use 'own', with or without a model, or 'shared' without.",
        )
    if kind == "shared":
        return Critic(policy, learns_trunk=False)
    return Critic(copied(policy, "critic") if model is None else _loaded(policy, model), learns_trunk=True)


def check_tokens(policy: Policy, trunk: Policy) -> None:
    """A critic's trunk must read every token as the policy writes it, and as many of them.

    Raises:
        PolicyError: it does not.
    """
    check_same_tokens(policy, trunk, called="critic", otherwise="leave critic.model out")


def _loaded(policy: Policy, model: str) -> Policy:
    trunk = load(model, device=policy.device)
    check_tokens(policy, trunk)
    return trunk


def copied(policy: Policy, role: str) -> Policy:
    """A copy, named after its role, that learns on its own; what is frozen, and the language-model head, are shared."""
    shared = {id(parameter): parameter for parameter in policy.model.parameters() if not parameter.requires_grad}
    tied = set(map(id, policy.model.get_input_embeddings().parameters()))
    head = policy.model.get_output_embeddings()
    shared |= {id(parameter): parameter for parameter in head.parameters() if id(parameter) not in tied}
    model = copy.deepcopy(policy.model, shared)
    model.zero_grad(set_to_none=True)
    trunk = Policy(
        f"{policy.name} ({role})",
        model,
        policy.tokenizer,
        context_length=policy.context_length,
        end_ids=policy.end_ids,
    )
    if policy.fused is not None:
        trunk.use_fused(policy.fused.settings)
    return trunk
