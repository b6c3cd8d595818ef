"""A lean forward pass of Llama-like decoders over the live parameters of the stock `transformers` model.

Layers of Llama, Mistral, Qwen2 and Qwen3 are all

    x <- x + output(attention(rotary(norm(query(n))), rotary(norm(key(n))), value(n)))     n = rms_norm(x)
    x <- x + down(silu(gate(m)) * up(m))                                                   m = rms_norm(x)

with norms of queries and keys and with biases or without. Beyond computing this in few passes, two things are left out
that stock modules cannot leave out. The last layer's output is computed for the tokens that somebody asks for only.
And what the first layer's projections see is a function of the token's id: where the vocabulary is smaller than the
row they are computed once per id.

A model is recognised by its class and its structure, and used only after `laurel.policy.parity` has compared the result
with the stock model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from laurel.policy.attention import AttentionPlan, LayerCall
from laurel.policy.fused_operations import (
    joined_linear,
    linear_onto,
    normed_and_rotated,
    rms_norm,
    rows_of,
    swiglu_onto,
)

_CLASSES = {"LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model"}
_DECODER = {"embed_tokens", "layers", "norm", "rotary_emb"}
_LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}

LONGEST_TABLE = 1 << 16
"""Contexts up to this have their rotary angles computed once; 32 MB in float32 for heads of 128."""


@dataclass(frozen=True)
class LayerSettings:
    """What a stock layer asks its attention for; see `LayerCall`."""

    scale: float
    window: int | None
    softcap: float | None


@dataclass(frozen=True)
class Layer:
    """The live modules of one layer, and its numbers.

    Attributes:
        attention, mlp: stock modules, of which only the parameters are used.
        input_norm, inner_norm: those before attention and MLP.
        settings: of the attention.
        width: of a head.
    """

    attention: Any
    mlp: Any
    input_norm: Any
    inner_norm: Any
    settings: LayerSettings
    width: int

    @property
    def query_key_norms(self) -> tuple[Tensor, Tensor] | None:
        """Weights of the norms of queries and keys."""
        attention = self.attention
        return (attention.q_norm.weight, attention.k_norm.weight) if hasattr(attention, "q_norm") else None

    @property
    def heads(self) -> int:
        """Query heads."""
        return int(self.attention.q_proj.weight.shape[0]) // self.width

    def project(self, x: Tensor) -> Tensor:
        """[T, D] to queries, keys and values [T, H + 2K, W], not yet rotated or normalised."""
        attention = self.attention
        maps = (attention.q_proj, attention.k_proj, attention.v_proj)
        normed = rms_norm(x, self.input_norm.weight, self.input_norm.variance_epsilon)
        projected = joined_linear(normed, [linear.weight for linear in maps], [linear.bias for linear in maps])
        return projected.view(len(x), -1, self.width)

    def split(self, projected: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values as attention takes them, [T, H or K, W] each."""
        norms = self.query_key_norms
        epsilon = 0.0 if norms is None else self.attention.q_norm.variance_epsilon
        return normed_and_rotated(projected, norms, epsilon, cos, sin, self.heads)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The layer's output [T, D] from its input and what its heads have gathered."""
        output, mlp = self.attention.o_proj, self.mlp
        x = linear_onto(x, attended, output.weight, output.bias)
        normed = rms_norm(x, self.inner_norm.weight, self.inner_norm.variance_epsilon)
        biases = (mlp.gate_proj.bias, mlp.up_proj.bias, mlp.down_proj.bias)
        return swiglu_onto(x, normed, (mlp.gate_proj.weight, mlp.up_proj.weight), mlp.down_proj.weight, biases)


class FusedDecoder:
    """Computes what `decoder` computes.

    Args:
        decoder: a stock decoder for which `fits` holds.
        settings: of the attention of every layer.
        context_length: most tokens on a path.
    """

    def __init__(self, decoder: Any, settings: Sequence[LayerSettings], context_length: int) -> None:
        self.settings = tuple(settings)
        self.layers = tuple(
            Layer(
                layer.self_attn,
                layer.mlp,
                layer.input_layernorm,
                layer.post_attention_layernorm,
                own,
                int(layer.self_attn.head_dim),
            )
            for layer, own in zip(decoder.layers, settings, strict=True)
        )
        self.decoder = decoder
        self._context_length = context_length
        self._angles: tuple[Tensor, Tensor] | None = None

    def forward(self, tokens: Tensor, positions: Tensor, plan: AttentionPlan, rows: Tensor | None = None) -> Tensor:
        """Final hidden states after the last norm, [B * Q, D] of a batch [B, Q], or those of its flat indices `rows`.

        Args:
            tokens, positions: [B, Q].
            plan: what each token attends to.
            rows: [R], in any order.
        """
        shape = tokens.shape
        cos, sin = self.angles(positions)
        chosen = rows if rows is not None and len(rows) < tokens.numel() else None
        x, projected = self._embedded(tokens.flatten())
        for index, layer in enumerate(self.layers):
            if projected is None:
                projected = layer.project(x)
            wanted = chosen if layer is self.layers[-1] else None
            attended = attend(plan, index, layer, layer.split(projected, cos, sin), shape, wanted)
            if wanted is not None:
                x, attended = rows_of(x, wanted), rows_of(attended, wanted)
            x, projected = layer.finish(x, attended), None
        if rows is not None and chosen is None:
            x = rows_of(x, rows)
        norm = self.decoder.norm
        return rms_norm(x, norm.weight, norm.variance_epsilon)

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [T, W / 2] by which the heads turn at these places."""
        if self._context_length > LONGEST_TABLE:
            return self._rotary(positions)
        weight = self.decoder.embed_tokens.weight
        kind = (weight.device, weight.dtype)
        if self._angles is None or (self._angles[0].device, self._angles[0].dtype) != kind:
            with torch.inference_mode(False):
                self._angles = self._rotary(torch.arange(self._context_length, device=positions.device)[None])
        flat = positions.flatten()
        cos, sin = self._angles
        return cos.index_select(0, flat), sin.index_select(0, flat)

    def _rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.decoder.embed_tokens.weight
        cos, sin = self.decoder.rotary_emb(weight, positions)
        half = cos.shape[-1] // 2
        return cos[..., :half].flatten(0, -2), sin[..., :half].flatten(0, -2)

    def _embedded(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embeddings [T, D] and, where computing them per id is less work, the first layer's projections."""
        embedding = self.decoder.embed_tokens
        if len(tokens) <= embedding.num_embeddings:
            return embedding(tokens), None
        table = embedding(torch.arange(embedding.num_embeddings, device=tokens.device))
        projected = self.layers[0].project(table)
        by_token = rows_of(projected.flatten(1), tokens)
        return rows_of(table, tokens), by_token.view(len(tokens), *projected.shape[1:])


def attend(
    plan: AttentionPlan,
    index: int,
    layer: Layer,
    heads: tuple[Tensor, Tensor, Tensor],
    shape: torch.Size,
    wanted: Tensor | None = None,
) -> Tensor:
    """What the heads of a layer gather, [T, H * W], from queries, keys and values [T, heads, W] of a batch `shape`."""
    query, key, value = (part.view(*shape, *part.shape[1:]).transpose(1, 2) for part in heads)
    settings = layer.settings
    call = LayerCall(index, query, key, value, settings.scale, settings.window, settings.softcap, wanted)
    return plan.attend(call).reshape(shape.numel(), -1)


def fits(decoder: Any) -> bool:
    """Whether a decoder is, by class and structure, one that is computed here: no adapters, no hooks, nothing else."""
    kind = type(decoder)
    if kind.__name__ not in _CLASSES or not kind.__module__.startswith("transformers.models."):
        return False
    if any(module._forward_hooks or module._forward_pre_hooks for module in decoder.modules()):
        return False
    return (
        _children(decoder) == _DECODER
        and type(decoder.embed_tokens) is torch.nn.Embedding
        and decoder.embed_tokens.max_norm is None
        and _is_norm(decoder.norm)
        and all(_layer_fits(layer) for layer in decoder.layers)
    )


def _layer_fits(layer: Any) -> bool:
    if _children(layer) != _LAYER or _children(layer.mlp) != _MLP:
        return False
    attention, mlp = layer.self_attn, layer.mlp
    if _children(attention) - {"q_norm", "k_norm"} != _ATTENTION or hasattr(attention, "q_norm") != hasattr(
        attention, "k_norm"
    ):
        return False
    inner = [attention.q_proj, attention.k_proj, attention.v_proj]
    opened = [mlp.gate_proj, mlp.up_proj]
    norms = [layer.input_layernorm, layer.post_attention_layernorm]
    norms += [attention.q_norm, attention.k_norm] if hasattr(attention, "q_norm") else []
    return (
        all(type(linear) is torch.nn.Linear for linear in (*inner, *opened, attention.o_proj, mlp.down_proj))
        and all(len({linear.bias is None for linear in together}) == 1 for together in (inner, opened))
        and all(_is_norm(norm) for norm in norms)
        and len({norm.variance_epsilon for norm in norms[2:]}) <= 1
        and type(mlp.act_fn).__name__ in {"SiLUActivation", "SiLU"}
    )


def _is_norm(module: Any) -> bool:
    return type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon")


def _children(module: Any) -> set[str]:
    return {name for name, _ in module.named_children()}
