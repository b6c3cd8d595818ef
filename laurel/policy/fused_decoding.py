"""One new token for each of many rows, in as few operations as possible, from weights prepared for it.

The weights of a norm are folded into the projections behind it, those are put together, and all come in the
layout that products like best. That is a copy of the model, so it is made for small models only, it lives as long as
one collection of experience, and it refuses to serve when a parameter has changed since.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from laurel.errors import PolicyError
from laurel.policy.attention import AttentionPlan
from laurel.policy.fused import FusedDecoder, Layer, attend
from laurel.policy.fused_operations import inverse_root_mean_square, joined_bias, rotate
from laurel.policy.products import PreparedWeight

LARGEST_COPY = 1 << 28
"""Bytes that prepared weights may take; larger models are computed from the live weights."""

LARGEST_TABLE = 1 << 22
"""Numbers in the table of the first layer's projections of all token ids; without it they are computed in each step."""


@dataclass(frozen=True)
class _Prepared:
    """Copies for one layer, with the weights of the norms in what comes after them.

    Attributes:
        project, project_bias: to queries, keys and values, [N, D] and [N].
        norms: [H + K, W] weights of the norms of each query and key head.
        output: [D, H * W].
        open, open_bias: gate and up, [2I, D] and [2I].
        down: [D, I].
    """

    project: PreparedWeight
    project_bias: Tensor | None
    norms: Tensor | None
    output: PreparedWeight
    open: PreparedWeight
    open_bias: Tensor | None
    down: PreparedWeight

    @classmethod
    def of(cls, layer: Layer) -> _Prepared:
        attention, mlp = layer.attention, layer.mlp
        inner = (attention.q_proj, attention.k_proj, attention.v_proj)
        opened = (mlp.gate_proj, mlp.up_proj)
        norms = layer.query_key_norms
        key_heads = attention.k_proj.weight.shape[0] // layer.width
        return cls(
            PreparedWeight(torch.cat([linear.weight for linear in inner]) * layer.input_norm.weight),
            joined_bias([linear.bias for linear in inner]),
            None if norms is None else torch.cat([norms[0].expand(layer.heads, -1), norms[1].expand(key_heads, -1)]),
            PreparedWeight(attention.o_proj.weight),
            PreparedWeight(torch.cat([linear.weight for linear in opened]) * layer.inner_norm.weight),
            joined_bias([linear.bias for linear in opened]),
            PreparedWeight(mlp.down_proj.weight),
        )


class DecodingStep:
    """Computes hidden states of single tokens as `FusedDecoder.forward` does, as long as no weight changes.

    Args:
        decoder: whose live weights are prepared.
    """

    def __init__(self, decoder: FusedDecoder) -> None:
        self._decoder = decoder
        self._parameters = list(decoder.decoder.parameters())
        self._versions = self._current_versions()
        with torch.no_grad():
            self._layers = [_Prepared.of(layer) for layer in decoder.layers]
            self._table = self._first_layer()

    @staticmethod
    def serves(decoder: FusedDecoder) -> bool:
        """Whether a copy is worth its memory: on the CPU, in full precision, up to `LARGEST_COPY`."""
        parameters = list(decoder.decoder.parameters())
        full = all(p.device.type == "cpu" and p.dtype in (torch.float32, torch.float64) for p in parameters)
        return full and sum(p.nbytes for p in parameters) <= LARGEST_COPY

    def forward(self, tokens: Tensor, positions: Tensor, plan: AttentionPlan) -> Tensor:
        """Final hidden states [B, D] of tokens [B, 1].

        Raises:
            PolicyError: when a weight was changed after they were prepared.
        """
        if self._current_versions() != self._versions:
            raise PolicyError(
                "A weight has changed while experience was being collected.",
                hint="update the policy between two collections, not during one.",
            )
        decoder = self._decoder
        cos, sin = (part.unsqueeze(1) for part in decoder.angles(positions))
        ids = tokens[:, 0]
        x = decoder.decoder.embed_tokens.weight.index_select(0, ids)
        for index, (layer, own) in enumerate(zip(decoder.layers, self._layers, strict=True)):
            if index == 0 and self._table is not None:
                projected = self._table.index_select(0, ids)
            else:
                projected = self._projected(layer, own, x)
            rotating = (projected.shape[1] + layer.heads) // 2
            rotated = torch.empty_like(projected[:, :rotating], memory_format=torch.contiguous_format)
            rotate(projected[:, :rotating], cos, sin, rotated)
            heads = (rotated[:, : layer.heads], rotated[:, layer.heads :], projected[:, rotating:])
            attended = attend(plan, index, layer, heads, tokens.shape)
            x = own.output.linear_onto(x, attended, layer.attention.o_proj.bias)
            opened = own.open.linear(_normed(x, layer.inner_norm.variance_epsilon), own.open_bias)
            gate, up = opened.chunk(2, -1)
            inner = torch.nn.functional.silu(gate, inplace=True).mul_(up)
            x = own.down.linear_onto(x, inner, layer.mlp.down_proj.bias)
        norm = decoder.decoder.norm
        return _normed(x, norm.variance_epsilon).mul_(norm.weight)

    def _projected(self, layer: Layer, own: _Prepared, x: Tensor) -> Tensor:
        """[B, D] to queries, keys and values [B, H + 2K, W], normalised where the architecture does, not rotated."""
        normed = _normed(x, layer.input_norm.variance_epsilon)
        projected = own.project.linear(normed, own.project_bias).view(len(normed), -1, layer.width)
        if own.norms is not None:
            rotating = projected[:, : len(own.norms)]
            inverse = inverse_root_mean_square(rotating, layer.attention.q_norm.variance_epsilon)
            rotating.mul_(inverse).mul_(own.norms)
        return projected

    def _first_layer(self) -> Tensor | None:
        """[V, H + 2K, W] what the first layer makes of every token id."""
        weight, own = self._decoder.decoder.embed_tokens.weight, self._layers[0]
        if len(weight) * own.project.outputs > LARGEST_TABLE:
            return None
        return self._projected(self._decoder.layers[0], own, weight)

    def _current_versions(self) -> list[int]:
        return [parameter._version for parameter in self._parameters]


def _normed(x: Tensor, epsilon: float) -> Tensor:
    """Rows [B, D] of mean square 1; the norm's weights are in what comes next."""
    return x * inverse_root_mean_square(x, epsilon)
