"""Tree attention by a mask over tokens x tokens: the definition, exact in every case, quadratic in memory.

It is the reference that the block-wise attention is tested against, and what computes the layers that blocks cannot:
sliding windows shorter than a path, capped scores, values of another width than the keys.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from laurel.policy.attention import LayerCall
from laurel.policy.packed import TreeLayout


def visible(layout: TreeLayout, positions: Tensor, window: int | None) -> Tensor:
    """[T, T] whether the query of the row may attend to the key of the column.

    True where the key is the query itself or an ancestor of it, and at most `window - 1` path positions before it.
    """
    total = layout.tokens
    last_descendant = torch.from_numpy(np.repeat(layout.subtree_ends, layout.ends - layout.starts))
    index = torch.arange(total)
    allowed = ((index >= index.unsqueeze(1)) & (index < last_descendant.unsqueeze(1))).T.to(positions.device)
    if window is not None:
        allowed = allowed & (positions.unsqueeze(1) - positions.unsqueeze(0) < window)
    return allowed


def masked_attention(call: LayerCall, allowed: Tensor) -> Tensor:
    """Attention with a boolean mask [Q, L] over the keys; returns [B, Q, H, Dv]."""
    groups = call.query.shape[1] // call.key.shape[1]
    key, value = call.key, call.value
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if call.softcap is None:
        attended = torch.nn.functional.scaled_dot_product_attention(
            call.query, key, value, attn_mask=allowed, scale=call.scale
        )
        return attended.transpose(1, 2)
    scores = torch.matmul(call.query, key.transpose(2, 3)) * call.scale
    scores = torch.tanh(scores / call.softcap) * call.softcap
    scores = scores.masked_fill(~allowed, -torch.inf)
    weights = torch.softmax(scores, -1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
    return torch.matmul(weights, value).transpose(1, 2)
