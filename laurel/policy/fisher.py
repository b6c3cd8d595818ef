"""The curvature of KL(old, now) at the policy as it is, as products with a direction in the space of its weights.

With the states s that predict the scored tokens, weights w_s that sum to 1, logits z_s(theta) (after temperature and
truncation, as everywhere in Laurel), p_s = softmax(z_s) and J_s = dz_s / dtheta,

    sum_s w_s KL(p_s(theta), p_s(theta + v)) = 1/2 v^T F v + O(|v|^3)
    F v = sum_s w_s J_s^T (diag(p_s) - p_s p_s^T) J_s v

which is the Fisher matrix of the whole next-token distribution in every state, not an estimate from the drawn tokens.
J_s v is one forward pass with tangents (forward-mode differentiation of the stock decoder under dense attention, no
graph is kept), J_s^T u one ordinary backward pass through the policy as it trains. Double backward is never needed, so
the hand-written gradients of the fused decoder, tree attention and log-probabilities serve, as do adapters and tied
heads. Over the vocabulary everything goes in chunks of rows: memory is flat.

Source: Schulman et al. 2015, arXiv 1502.05477, appendix C.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from laurel.errors import ConfigurationError
from laurel.policy.attention import AttentionPlan, LayerCall, attending
from laurel.policy.dense_attention import masked_attention, visible
from laurel.policy.log_probs import CHUNK_ELEMENTS, Chunk, Head, Rows, chunks, tempered
from laurel.policy.packed import Packed, pack
from laurel.policy.policy import Policy
from laurel.policy.tree_attention import TreeAttention
from laurel.tree import Segment, Source, Tree

QUERIES_AT_ONCE = 256
"""Rows of an attention matrix that are held at once where tangents pass."""

PROBED_TOKENS = 8
# Stock norms compute in float32 whatever the model's precision, so float64 is not held to more.
_TOLERANCE = 1e-3
_TOLERANCE_16_BIT = 0.05


@dataclass(frozen=True)
class Linearised:
    """What all products at the same weights share, so that it is computed once.

    Attributes:
        packed: whose scored tokens' states are meant.
        hidden: [R, D] their final hidden states, with the graph that leads to them.
        attention: where tangents pass, with its masks.
    """

    packed: Packed
    hidden: Tensor
    attention: TangentAttention

    @classmethod
    def of(cls, policy: Policy, packed: Packed) -> Linearised:
        """At the weights as they are: it is wrong once they have changed."""
        with torch.enable_grad():
            return cls(packed, predictors(policy, packed), TangentAttention(packed))


def add_fisher_product(
    policy: Policy,
    at: Linearised,
    direction: Mapping[str, Tensor],
    weights: Tensor,
    *,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> None:
    """Add F v to the gradients of the trainable parameters.

    Args:
        at: the packed row and what is kept of it; its graph stays, for further products.
        direction: v, a tensor for every trainable parameter by its name.
        weights: [R] w_s for every row of logits; those of all packed rows of a step sum to 1.
        chunk_elements: most logits to hold at once.
    """
    head, hidden, packed = policy.head, at.hidden, at.packed
    head_direction = _of_head(policy, direction)
    moved = hidden_tangents(policy, packed, direction, at.attention)
    gradients = _head_product(hidden.detach(), moved, head, head_direction, packed.rows, weights, chunk_elements)
    pairs = [
        (output, gradient.to(output.dtype))
        for output, gradient in zip((hidden, head.weight, head.bias), gradients, strict=True)
        if output is not None and output.requires_grad
    ]
    outputs, upstream = zip(*pairs, strict=True)
    torch.autograd.backward(outputs, upstream, retain_graph=True)


def predictors(policy: Policy, packed: Packed) -> Tensor:
    """[R, D] final hidden states of the rows of logits, differentiable in the ordinary way."""
    return policy.hidden_states(packed.tokens, packed.positions, TreeAttention.of(packed), packed.row_predictors)


def hidden_tangents(
    policy: Policy, packed: Packed, direction: Mapping[str, Tensor], attention: TangentAttention
) -> Tensor:
    """[R, D] derivative along `direction` of the final hidden states of the rows of logits, by forward mode."""
    decoder = policy.model.get_decoder()
    named = {id(parameter): name for name, parameter in policy.trainable_parameters().items()}
    padding = _padding_rows(decoder)
    with torch.no_grad(), forward_ad.dual_level():
        dual: dict[str, Tensor] = {}
        for name, parameter in decoder.named_parameters():
            if id(parameter) in named:
                tangent = direction[named[id(parameter)]].to(parameter.dtype)
                if id(parameter) in padding:
                    tangent = tangent.index_fill(0, torch.tensor([padding[id(parameter)]], device=tangent.device), 0)
                dual[name] = forward_ad.make_dual(parameter.detach(), tangent)  # type: ignore[no-untyped-call]
        inputs = {
            "input_ids": packed.tokens.unsqueeze(0),
            "position_ids": packed.positions.unsqueeze(0),
            "use_cache": False,
        }
        with attending(attention):
            states = functional_call(decoder, dual, kwargs=inputs).last_hidden_state
        rows = states.flatten(0, 1).index_select(0, packed.row_predictors)
        value, tangent = forward_ad.unpack_dual(rows)  # type: ignore[no-untyped-call]
        return torch.zeros_like(value) if tangent is None else tangent


def _padding_rows(decoder: torch.nn.Module) -> dict[int, int]:
    """The identity of every embedding whose padding row is a constant, which no gradient reaches, and that row."""
    embeddings = (module for module in decoder.modules() if isinstance(module, torch.nn.Embedding))
    return {id(module.weight): module.padding_idx for module in embeddings if module.padding_idx is not None}


class TangentAttention(AttentionPlan):
    """Tree attention in operations that know their tangents: dense, some queries at a time; only masks are kept."""

    def __init__(self, packed: Packed) -> None:
        self._packed = packed
        self._blocks: dict[int | None, list[tuple[slice, Tensor, Tensor]]] = {}

    def attend(self, call: LayerCall) -> Tensor:
        """See `AttentionPlan`: [1, T, H, Dv]."""
        if call.window not in self._blocks:
            self._blocks[call.window] = list(self._cut(call.window))
        parts = []
        for queries, read, allowed in self._blocks[call.window]:
            key, value = (part.index_select(2, read) for part in (call.key, call.value))
            some = replace(call, query=call.query[:, :, queries], key=key, value=value)
            with sdpa_kernel(SDPBackend.MATH):  # the flash kernels have no tangents
                parts.append(masked_attention(some, allowed))
        return torch.cat(parts, 1)

    def _cut(self, window: int | None) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Some queries, the places that any of them reads, and who reads what."""
        for place, allowed in visible(self._packed.layout, self._packed.positions, window):
            for start in range(0, len(allowed), QUERIES_AT_ONCE):
                stop = min(start + QUERIES_AT_ONCE, len(allowed))
                read = torch.nonzero(allowed[start:stop, :stop].any(0)).squeeze(1)  # siblings are not
                queries = slice(place.start + start, place.start + stop)
                yield queries, place.start + read, allowed[start:stop].index_select(1, read)


def check_tangents(policy: Policy) -> None:
    """Prove on a few tokens that forward mode and the backward pass are of one mind: <u, J v> = <J^T u, v>.

    Raises:
        ConfigurationError: an operation of the model has no forward-mode derivative, or a wrong one.
    """
    packed = _probe(policy)
    parameters = policy.trainable_parameters()
    noise = torch.Generator().manual_seed(0)
    direction = {name: _noise(parameter, noise) for name, parameter in parameters.items()}
    try:
        moved = hidden_tangents(policy, packed, direction, TangentAttention(packed)).double()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # of which NotImplementedError, what torch raises here, is one
        raise ConfigurationError(
            f"{policy.name}: an operation of {type(policy.model).__name__} has no forward-mode derivative, which a "
            f"trust region needs: {str(error).splitlines()[0]}",
            hint="choose another model, or bound the step by ppo(maximum_kl=...).",
        ) from error
    hidden = predictors(policy, packed)
    upstream = _noise(hidden, noise)
    gradients = torch.autograd.grad(hidden, list(parameters.values()), upstream, allow_unused=True)
    backward = sum(
        float((gradient.double() * direction[name].double()).sum())
        for name, gradient in zip(parameters, gradients, strict=True)
        if gradient is not None
    )
    forward = float((moved * upstream.double()).sum())
    size = float(moved.norm() * upstream.double().norm())
    tolerance = _TOLERANCE if policy.dtype.itemsize >= torch.float32.itemsize else _TOLERANCE_16_BIT
    if not abs(forward - backward) <= tolerance * size:
        raise ConfigurationError(
            f"{policy.name}: forward mode and the backward pass of {type(policy.model).__name__} disagree "
            f"({forward:.6g} against {backward:.6g}), so a trust region cannot be measured.",
            hint="choose another model, or bound the step by ppo(maximum_kl=...).",
        )


def _head_product(
    hidden: Tensor,
    moved: Tensor,
    head: Head,
    head_direction: tuple[Tensor | None, Tensor | None],
    rows: Rows,
    weights: Tensor,
    chunk_elements: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of hidden states, weight and bias under u = w (diag(p) - p p^T) dz, dz the logits' derivative."""
    precise = torch.promote_types(hidden.dtype, torch.float32)
    grad_hidden = torch.empty_like(hidden)
    grad_weight = torch.zeros_like(head.weight, dtype=precise)
    grad_bias = torch.zeros(len(head.weight), dtype=precise, device=hidden.device)
    with torch.no_grad():
        for chunk in chunks(rows, len(head.weight), chunk_elements):
            states, upstream = hidden[chunk.rows], _curved(hidden, moved, head, head_direction, rows, weights, chunk)
            upstream = upstream.to(hidden.dtype)
            grad_hidden[chunk.rows] = upstream @ head.weight
            if head.weight.requires_grad:
                grad_weight += upstream.T @ states
            grad_bias += upstream.sum(0)
    return grad_hidden, grad_weight, grad_bias


def _curved(
    hidden: Tensor,
    moved: Tensor,
    head: Head,
    head_direction: tuple[Tensor | None, Tensor | None],
    rows: Rows,
    weights: Tensor,
    chunk: Chunk,
) -> Tensor:
    """u of one chunk of raw logits, [C, V]."""
    logits, slope, _ = tempered(hidden, head, rows, chunk)
    chances = torch.softmax(logits, 1)  # 0 where truncation dropped a token
    weight_direction, bias_direction = head_direction
    change = moved[chunk.rows] @ head.weight.T
    if weight_direction is not None:
        change = change + hidden[chunk.rows] @ weight_direction.T
    if bias_direction is not None:
        change = change + bias_direction
    change = change.to(chances.dtype) * slope
    change -= (chances * change).sum(1, keepdim=True)
    return change.mul_(chances).mul_(slope).mul_(weights[chunk.rows].to(chances.dtype).unsqueeze(1))


def _of_head(policy: Policy, direction: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
    """The parts of a direction that belong to the head's weight and bias, where these train."""
    by_identity = {id(parameter): direction[name] for name, parameter in policy.trainable_parameters().items()}
    head = policy.head
    parts = [by_identity.get(id(part)) for part in (head.weight, head.bias)]
    weight, bias = (None if part is None else part.to(policy.dtype) for part in parts)
    return weight, bias


def _probe(policy: Policy) -> Packed:
    """A prompt with two short answers of arbitrary tokens."""
    count = min(PROBED_TOKENS, policy.context_length)
    tokens = (policy.vocabulary_size // 2 + np.arange(count)) % policy.vocabulary_size
    answer = tokens[1:]
    tree = Tree.build(
        "probe",
        "probe",
        [Segment(Source.PROMPT, tokens[:1], -1), Segment(Source.POLICY, answer, 0), Segment(Source.POLICY, answer, 0)],
    )
    return pack([tree], [tree.flat.policy], policy.device)


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.device, like.dtype)
