"""The one attention function that Laurel registers with `transformers`.

Stock decoders call it in every layer with rotated queries, keys and values. What is attended to (a packed tree, or
cached prefixes while sampling) is decided by the `AttentionPlan` that the caller has put in force, so the model code
stays untouched and no mask of tokens x tokens has to be built.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import AttentionInterface

from laurel.errors import PolicyError

ATTENTION_NAME = "laurel"


@dataclass(frozen=True)
class LayerCall:
    """What one attention layer asks for.

    Attributes:
        layer: index of the layer, the key of its cache.
        query: [B, H, Q, D]; key, value: [B, K, Q, D] with H a multiple of K (grouped queries); D may differ for value.
        scale: factor on the dot products.
        window: a token attends to the `window` last path positions including its own; None: to all.
        softcap: dot products become `softcap * tanh(scores / softcap)`; None: unchanged.
        wanted: flat indices of the queries whose output somebody reads, where that is not all of them: any finite
            numbers will do for the others.
    """

    layer: int
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scale: float
    window: int | None
    softcap: float | None
    wanted: torch.Tensor | None = None


class AttentionPlan(Protocol):
    """Decides what each query attends to, and may keep keys and values."""

    def attend(self, call: LayerCall) -> torch.Tensor:
        """The attention output, [B, Q, H, D] (heads after positions, ready for the output projection)."""
        ...


_plan: ContextVar[AttentionPlan | None] = ContextVar("laurel_attention_plan", default=None)


@contextmanager
def attending(plan: AttentionPlan) -> Iterator[None]:
    """Every forward pass inside the block attends as `plan` says."""
    token = _plan.set(plan)
    try:
        yield
    finally:
        _plan.reset(token)


def planned_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """The function behind `attn_implementation="laurel"`; its signature is the one that `transformers` calls."""
    plan = _plan.get()
    if plan is None:
        raise PolicyError(
            "A forward pass of a Laurel policy was started outside of `attending(plan)`.",
            hint="call the methods of Policy, or set the model's attention implementation back to 'sdpa'.",
        )
    if dropout:
        raise PolicyError("Attention dropout is on while training by reinforcement.", hint="call model.eval().")
    if kwargs.get("s_aux") is not None:
        raise PolicyError("Attention sinks are not supported.", hint="choose a model without them.")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: int = module.layer_idx  # type: ignore[assignment]
    return plan.attend(LayerCall(layer, query, key, value, scale, sliding_window, softcap)), None


def register() -> None:
    """Make the name known to `transformers`; harmless when called again."""
    AttentionInterface.register(ATTENTION_NAME, planned_attention)
