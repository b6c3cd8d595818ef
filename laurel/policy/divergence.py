"""How far every row's distribution is from another's, over the vocabulary, without holding all rows' logits.

For the row r with tempered logits z_r of the policy and w_r of the reference, both restricted to the kept set K_r of
the draw and renormalised there (so what is compared is what was drawn from; see `laurel.policy.log_probs`):

    p = softmax(z_r), q = softmax(w_r)       D(r) = sum over v in K_r of p_v (log p_v - log q_v)
    dD / dz_v = p_v (log p_v - log q_v - D)

for the KL of the policy from the reference; `laurel.objectives.distillation` has the other forms.

Forward and backward go over chunks of rows, as for log-probabilities: two chunks of logits live at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laurel.objectives import Divergence
from laurel.policy.log_probs import CHUNK_ELEMENTS, Chunk, Head, Rows, chunks, tempered


@dataclass(frozen=True)
class Compared:
    """The other policy's view of the same rows: final hidden states [R, D] and output head, without gradient."""

    hidden: Tensor
    head: Head


def divergence(
    hidden: Tensor,
    head: Head,
    other: Compared,
    rows: Rows,
    *,
    form: Divergence | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> Tensor:
    """D of every row, [R], in nats, differentiable in `hidden` and the head.

    Args:
        hidden: [R, D] final hidden states of the policy; head: its output head.
        other: the reference's view of these rows.
        rows: temperatures and kept sets.
        form: which divergence; None: KL(policy, reference).
        chunk_elements: most logits of one of the two to hold at once.
    """
    divergences: Tensor = _Divergence.apply(
        hidden, head.weight, head.bias, head, other, rows, form or Divergence(), chunk_elements
    )  # type: ignore[no-untyped-call]
    return divergences


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        head: Head,
        other: Compared,
        rows: Rows,
        form: Divergence,
        chunk_elements: int,
    ) -> Tensor:
        result = hidden.new_empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
        for chunk in chunks(rows, len(weight), chunk_elements):
            result[chunk.rows] = _divergences(hidden, head, other, rows, form, chunk)
        ctx.save_for_backward(hidden, weight, bias, result)
        ctx.head, ctx.other, ctx.rows, ctx.form, ctx.chunk_elements = head, other, rows, form, chunk_elements
        return result

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, divergences = ctx.saved_tensors
        needs = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden) if needs[0] else None
        grad_weight = torch.zeros_like(weight, dtype=upstream.dtype) if needs[1] else None
        grad_bias = torch.zeros_like(bias, dtype=upstream.dtype) if bias is not None and needs[2] else None
        grad: Tensor | None = None
        for chunk in chunks(ctx.rows, len(weight), ctx.chunk_elements):
            del grad  # or the last chunk's would live through the next one's peak
            grad = _logit_gradient(ctx, chunk, upstream, hidden, divergences).to(hidden.dtype)
            if grad_hidden is not None:
                torch.mm(grad, weight, out=grad_hidden[chunk.rows])
            if grad_weight is not None:
                grad_weight += grad.T @ hidden[chunk.rows]
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        if grad_bias is not None:
            grad_bias = grad_bias.to(bias.dtype)
        return grad_hidden, grad_weight, grad_bias, None, None, None, None, None


def _divergences(hidden: Tensor, head: Head, other: Compared, rows: Rows, form: Divergence, chunk: Chunk) -> Tensor:
    """D of one chunk; a function of its own so that its logits are gone before the next chunk's."""
    if form.form != "reverse":
        log_p, log_q, _, dropped = _both(hidden, head, other, rows, chunk)
        return form.value(log_p, log_q, dropped)
    p, difference, _ = _compare(hidden, head, other, rows, chunk)
    return p.mul_(difference).sum(1)


def _logit_gradient(ctx: Any, chunk: Chunk, upstream: Tensor, hidden: Tensor, divergences: Tensor) -> Tensor:
    """Gradient [C, V] of the raw logits of one chunk."""
    if ctx.form.form != "reverse":
        log_p, log_q, slope, dropped = _both(hidden, ctx.head, ctx.other, ctx.rows, chunk)
        gradient: Tensor = ctx.form.logit_gradient(log_p, log_q, dropped)
        return gradient.mul_(upstream[chunk.rows].unsqueeze(1)).mul_(slope)
    p, difference, slope = _compare(hidden, ctx.head, ctx.other, ctx.rows, chunk)
    difference.sub_(divergences[chunk.rows].unsqueeze(1))
    return p.mul_(difference).mul_(upstream[chunk.rows].unsqueeze(1)).mul_(slope)


def _compare(hidden: Tensor, head: Head, other: Compared, rows: Rows, chunk: Chunk) -> tuple[Tensor, Tensor, Tensor]:
    """p and log p - log q of one chunk, [C, V], 0 where truncation dropped a token, and the slope of the raw logits."""
    log_p, log_q, slope, dropped = _both(hidden, head, other, rows, chunk)
    p = torch.exp(log_p)  # the most common form, in place: two copies fewer than `form.value`
    difference = log_p.sub_(log_q)
    if dropped is not None:
        difference.masked_fill_(dropped, 0)
    return p, difference, slope


def _both(
    hidden: Tensor, head: Head, other: Compared, rows: Rows, chunk: Chunk
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """log p and log q of one chunk, [C, V], the slope of the raw logits, and what truncation dropped."""
    logits, slope, dropped = tempered(hidden, head, rows, chunk)
    log_p = logits.sub_(torch.logsumexp(logits, 1, keepdim=True))
    theirs, _, _ = tempered(other.hidden, other.head, rows, chunk)
    return log_p, theirs.sub_(torch.logsumexp(theirs, 1, keepdim=True)), slope, dropped
