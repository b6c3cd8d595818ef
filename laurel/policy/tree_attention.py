"""Attention over packed trees: every token attends to itself and its ancestors, and no mask is ever built.

A tree falls into dense blocks (`tree_blocks`). Every block is one call of a stock flash kernel, which returns its
output o_i and the logsumexp l_i of its scores. Attention over the union of a token's blocks is then exact:

    l = logsumexp_i l_i        o = sum_i exp(l_i - l) o_i

and the backward kernel of a block, given the final o and l in place of its own, returns just that block's share of the
gradients, because the softmax of the union restricted to a block is exp(scores - l). (Liu, Zaharia and Abbeel 2023,
"Ring attention with blockwise transformers", use the same identity between devices.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laurel.policy.attention import LayerCall
from laurel.policy.dense_attention import dense_attention, visible
from laurel.policy.packed import Packed, TreeLayout
from laurel.policy.tree_blocks import Blocks

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


class TreeAttention:
    """The attention plan of one packed row of trees; good for any number of passes over it."""

    def __init__(self, layout: TreeLayout, positions: Tensor) -> None:
        self._layout = layout
        self._positions = positions
        self._blocks: dict[bool, Blocks] = {}
        self._masks: dict[int | None, list[tuple[slice, Tensor]]] = {}

    @classmethod
    def of(cls, packed: Packed) -> TreeAttention:
        """The plan for a packed row."""
        return cls(packed.layout, packed.positions)

    def attend(self, call: LayerCall) -> Tensor:
        """See `AttentionPlan`: [1, T, H, Dv]."""
        window = call.window if call.window is not None and call.window < self._layout.longest_path else None
        same_width = call.query.shape[-1] == call.value.shape[-1]
        if window is None and call.softcap is None and same_width and call.query.device.type == "cpu":
            return block_attention(call.query, call.key, call.value, self._cut(call.wanted), call.scale)
        if window not in self._masks:
            self._masks[window] = visible(self._layout, self._positions, window)
        return dense_attention(call, self._masks[window])

    def _cut(self, wanted: Tensor | None) -> Blocks:
        """One way for all layers of which everything is wanted, and one for the last."""
        everything = wanted is None
        if everything not in self._blocks:
            asked = None if wanted is None else np.unique(wanted.cpu().numpy())
            self._blocks[everything] = Blocks.of(self._layout, self._positions.device, asked)
        return self._blocks[everything]


def block_attention(query: Tensor, key: Tensor, value: Tensor, blocks: Blocks, scale: float) -> Tensor:
    """Tree attention by blocks.

    Args:
        query: [1, H, T, D]; key, value: [1, K, T, D] with H a multiple of K.
        blocks: of the row's layout.
        scale: factor on the dot products.

    Returns:
        [1, T, H, D].
    """
    attended: Tensor = _BlockAttention.apply(query, key, value, blocks, scale)  # type: ignore[no-untyped-call]
    return attended


def _by_token(tensor: Tensor, heads: int) -> Tensor:
    """[1, K, T, D] to [T, H, D], every key head repeated for the query heads that share it."""
    by_token = tensor[0].transpose(0, 1)
    groups = heads // by_token.shape[1]
    return by_token if groups == 1 else by_token.repeat_interleave(groups, 1)


def _by_head(gradient: Tensor, key_heads: int) -> Tensor:
    """[T, H, D] to [1, K, T, D], the gradients of shared key heads added."""
    groups = gradient.shape[1] // key_heads
    if groups > 1:
        gradient = gradient.view(len(gradient), key_heads, groups, -1).sum(2)
    return gradient.transpose(0, 1).unsqueeze(0)


class _BlockAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, blocks: Blocks, scale: float) -> Tensor:
        heads = query.shape[1]
        q, k, v = (_by_token(tensor, heads) for tensor in (query, key, value))
        output = query.new_empty(q.shape)
        log_sum = query.new_empty((*q.shape[:2], 1), dtype=torch.promote_types(query.dtype, torch.float32))
        for own in blocks.own:
            part, part_sum = _flash(own.of(q), own.of(k), own.of(v), 0.0, True, scale=scale)
            own.of(output).copy_(part)
            own.of(log_sum).copy_(part_sum.unsqueeze(-1))
        for last in blocks.last:
            last.keys(output).zero_()
            last.keys(log_sum).zero_()
            part, part_sum = _flash(last.queries(q), last.keys(k), last.keys(v), 0.0, False, scale=scale)
            last.queries(output).copy_(part)
            last.queries(log_sum).copy_(part_sum.unsqueeze(-1))
        for inner in blocks.inner:
            part, part_sum = _flash(inner.queries(q), inner.keys(k), inner.keys(v), 0.0, False, scale=scale)
            total, sums = inner.queries(output), inner.queries(log_sum)
            part_sum = part_sum.unsqueeze(-1)
            total.lerp_(part, torch.sigmoid(part_sum - sums).to(part.dtype))
            torch.logaddexp(sums, part_sum, out=sums)
        for rows in blocks.rows:
            part, part_sum = _flash(rows.of(q), rows.of(k), rows.of(v), 0.0, True, scale=scale)
            output.index_copy_(0, rows.token, rows.places(part).index_select(0, rows.own))
            log_sum.index_copy_(0, rows.token, rows.places(part_sum.unsqueeze(-1)).index_select(0, rows.own))
        ctx.save_for_backward(query, key, value, output, log_sum)
        ctx.blocks, ctx.scale = blocks, scale
        return output.unsqueeze(0)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, log_sum = ctx.saved_tensors
        heads, scale = query.shape[1], ctx.scale
        q, k, v = (_by_token(tensor, heads) for tensor in (query, key, value))
        grad = grad[0]
        grad_q, grad_k, grad_v = (torch.zeros_like(output) for _ in range(3))
        for own in ctx.blocks.own:
            parts = _flash_backward(
                *(own.of(t) for t in (grad, q, k, v, output)), own.of(log_sum).squeeze(-1), 0.0, True, scale=scale
            )
            for total, part in zip((grad_q, grad_k, grad_v), parts, strict=True):
                own.of(total).copy_(part)
        for inner in (*ctx.blocks.last, *ctx.blocks.inner):
            part_q, part_k, part_v = _flash_backward(
                inner.queries(grad),
                inner.queries(q),
                inner.keys(k),
                inner.keys(v),
                inner.queries(output),
                inner.queries(log_sum).squeeze(-1),
                0.0,
                False,
                scale=scale,
            )
            inner.queries(grad_q).add_(part_q)
            inner.keys(grad_k).add_(part_k)
            inner.keys(grad_v).add_(part_v)
        for rows in ctx.blocks.rows:
            direction = rows.batched(grad.index_select(0, rows.read).index_fill_(0, rows.other, 0))
            sums = rows.batched(log_sum.index_select(0, rows.read).index_fill_(0, rows.other, torch.inf)).squeeze(-1)
            parts = _flash_backward(
                direction, rows.of(q), rows.of(k), rows.of(v), rows.of(output), sums, 0.0, True, scale=scale
            )
            for total, part in zip((grad_q, grad_k, grad_v), parts, strict=True):
                total.index_add_(0, rows.read, rows.places(part))
        key_heads = key.shape[1]
        return _by_head(grad_q, heads), _by_head(grad_k, key_heads), _by_head(grad_v, key_heads), None, None
