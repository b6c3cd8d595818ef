"""Tree attention by a mask over the tokens of each tree: the definition, exact in every case, quadratic in memory.

It is the reference that the block-wise attention is tested against, and what computes the layers that blocks cannot:
sliding windows shorter than a path, capped scores, values of another width than the keys, devices without the kernels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from laurel.policy.attention import LayerCall
from laurel.policy.packed import TreeLayout


def visible(layout: TreeLayout, positions: Tensor, window: int | None) -> list[tuple[slice, Tensor]]:
    """For each tree its place in the row, and [T, T] whether the token of the row may attend to that of the column.

    True where the column's token is the row's own or an ancestor of it, at most `window - 1` path positions before it.
    """
    below = torch.from_numpy(np.repeat(layout.subtree_ends, layout.ends - layout.starts)).to(positions.device)
    masks = []
    for place in layout.trees:
        index = torch.arange(place.start, place.stop, device=positions.device)
        allowed = (index <= index.unsqueeze(1)) & (index.unsqueeze(1) < below[place])
        if window is not None:
            depth = positions[place]
            allowed &= depth.unsqueeze(1) - depth < window
        masks.append((place, allowed))
    return masks


def dense_attention(call: LayerCall, masks: list[tuple[slice, Tensor]]) -> Tensor:
    """Attention of one packed row under the masks of `visible`; returns [1, T, H, Dv]."""
    parts = []
    for place, allowed in masks:
        query, key, value = (tensor[:, :, place] for tensor in (call.query, call.key, call.value))
        parts.append(masked_attention(replace(call, query=query, key=key, value=value), allowed))
    return torch.cat(parts, 1)


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
