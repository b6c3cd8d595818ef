"""Log-probabilities and entropies of given tokens, without ever holding the logits of all of them.

For the row r of hidden state h_r, temperature t_r and kept set K_r (all of the vocabulary unless sampling truncated):

    z_r   = cap(scale * (W h_r + b)) / t_r   restricted to K_r        cap(x) = c tanh(x / c), or x
    log_probability(n) = z_r[token_n] - logsumexp(z_r)                r = row of n
    entropy(r)         = logsumexp(z_r) - sum_v softmax(z_r)_v z_rv
    log_normaliser(r)  = logsumexp(z_r)

The forward pass goes over chunks of rows and keeps one logsumexp and one entropy per row; the backward pass computes
the logits of each chunk again. So memory is one chunk, whatever the number of tokens times the vocabulary, for one
more multiplication by the head. Several tokens may share a row: the first tokens of siblings are all predicted by the
last token of their prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laurel.policy import products
from laurel.tree import IntArray

CHUNK_ELEMENTS = 1 << 23
"""Logits in one chunk: 32 MB in float32, of which three or four copies live at once."""


@dataclass(frozen=True)
class Head:
    """What turns a final hidden state into logits: `cap(scale * (weight @ hidden + bias))`.

    Attributes:
        weight: [V, D]; bias: [V] or None.
        scale: factor on the logits (1 for most architectures).
        softcap: logits become `softcap * tanh(logits / softcap)`; None: unchanged.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """[R, D] hidden states to [R, V] logits, in float32 or better."""
        logits = products.linear(hidden, self.weight, self.bias)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits


@dataclass(frozen=True)
class KeptIds:
    """The kept set of every row, ragged: row r keeps `ids[offsets[r]:offsets[r + 1]]`; an empty one keeps all."""

    ids: Tensor
    offsets: IntArray


@dataclass(frozen=True)
class Rows:
    """Which rows of logits are needed (R of them) and which tokens are read from each (N).

    Attributes:
        temperatures: [R] float.
        row: [N] the row of each token, never decreasing.
        token: [N] ids.
        offsets: [R + 1] on the CPU: row r is read by the tokens `offsets[r]:offsets[r + 1]`.
        kept: the truncated supports, or None when no row is truncated.
    """

    temperatures: Tensor
    row: Tensor
    token: Tensor
    offsets: IntArray
    kept: KeptIds | None = None


def scores_of_rows(
    hidden: Tensor, head: Head, rows: Rows, *, entropy: bool = True, chunk_elements: int = CHUNK_ELEMENTS
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability of every token [N], entropy and log-normaliser of every row [R], in nats.

    They are differentiable in `hidden` and in the head.

    Args:
        hidden: [R, D] final hidden states.
        head: the output head.
        rows: what to read.
        entropy: whether to compute the entropies; NaN, without gradient, otherwise.
        chunk_elements: most logits to hold at once.
    """
    scores = _ChunkedScores.apply(hidden, head.weight, head.bias, head, rows, entropy, chunk_elements)  # type: ignore[no-untyped-call]
    log_probs, entropies, log_normalisers = scores
    return log_probs, entropies if entropy else entropies.detach(), log_normalisers


@dataclass(frozen=True)
class Chunk:
    """Rows `rows` and the tokens `tokens` that are read from them."""

    rows: slice
    tokens: slice


def chunks(rows: Rows, vocabulary: int, chunk_elements: int) -> Iterator[Chunk]:
    """All rows in order, in chunks of at most `chunk_elements` logits (at least one row each)."""
    count = len(rows.offsets) - 1
    size = max(1, chunk_elements // vocabulary)
    for start in range(0, count, size):
        stop = min(start + size, count)
        yield Chunk(slice(start, stop), slice(int(rows.offsets[start]), int(rows.offsets[stop])))


def _dropped(rows: Rows, chunk: Chunk, vocabulary: int) -> Tensor | None:
    """[C, V] which logits truncation removed, or None."""
    if rows.kept is None:
        return None
    offsets = torch.from_numpy(rows.kept.offsets[chunk.rows.start : chunk.rows.stop + 1])
    counts = offsets.diff().to(rows.token.device)
    ids = rows.kept.ids[int(offsets[0]) : int(offsets[-1])]
    dropped = (counts > 0).unsqueeze(1).repeat(1, vocabulary)
    owner = torch.repeat_interleave(torch.arange(len(counts), device=ids.device), counts)
    dropped[owner, ids] = False
    return dropped


def tempered(hidden: Tensor, head: Head, rows: Rows, chunk: Chunk) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits over temperature of one chunk with minus infinity where dropped, the capped logits' slope, the dropped."""
    logits = head.logits(hidden[chunk.rows])
    temperatures = rows.temperatures[chunk.rows].to(logits.dtype).unsqueeze(1)
    slope = head.scale / temperatures
    if head.softcap is not None:
        slope = slope * (1 - (logits / head.softcap).square_())
    tempered = logits.div_(temperatures)
    dropped = _dropped(rows, chunk, logits.shape[1])
    if dropped is not None:
        tempered.masked_fill_(dropped, -torch.inf)
    return tempered, slope, dropped


class _ChunkedScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        head: Head,
        rows: Rows,
        with_entropy: bool,
        chunk_elements: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        precise = torch.promote_types(hidden.dtype, torch.float32)
        log_normaliser = hidden.new_empty(len(hidden), dtype=precise)
        entropy = torch.full_like(log_normaliser, torch.nan)
        log_probs = hidden.new_empty(len(rows.token), dtype=precise)
        for chunk in chunks(rows, len(weight), chunk_elements):
            _score(hidden, head, rows, chunk, log_probs, log_normaliser, entropy if with_entropy else None)
        ctx.save_for_backward(hidden, weight, bias, log_normaliser, entropy)
        ctx.head, ctx.rows, ctx.with_entropy, ctx.chunk_elements = head, rows, with_entropy, chunk_elements
        return log_probs, entropy, log_normaliser

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(
        ctx: Any, grad_log_probs: Tensor, grad_entropy: Tensor, grad_normaliser: Tensor
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, log_normaliser, entropy = ctx.saved_tensors
        rows, needs = ctx.rows, ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden) if needs[0] else None
        grad_weight = torch.zeros_like(weight, dtype=log_normaliser.dtype) if needs[1] else None
        grad_bias = torch.zeros_like(bias, dtype=log_normaliser.dtype) if bias is not None and needs[2] else None
        grad: Tensor | None = None
        for chunk in chunks(rows, len(weight), ctx.chunk_elements):
            del grad  # or the last chunk's would live through the next one's peak
            grads = (grad_log_probs, grad_entropy, grad_normaliser)
            grad = _logit_gradient(ctx, chunk, grads, hidden, log_normaliser, entropy)
            grad = grad.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[chunk.rows] = products.input_gradient(grad, weight)
            if grad_weight is not None:
                grad_weight += products.weight_gradient(grad, hidden[chunk.rows])
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        if grad_bias is not None:
            grad_bias = grad_bias.to(bias.dtype)
        return grad_hidden, grad_weight, grad_bias, None, None, None, None


def _score(
    hidden: Tensor,
    head: Head,
    rows: Rows,
    chunk: Chunk,
    log_probs: Tensor,
    log_normaliser: Tensor,
    entropy: Tensor | None,
) -> None:
    """Fill in the results of one chunk; a function of its own so that its logits are gone before the next chunk's."""
    logits, _, dropped = tempered(hidden, head, rows, chunk)
    normaliser = torch.logsumexp(logits, 1)
    log_normaliser[chunk.rows] = normaliser
    own_row = rows.row[chunk.tokens] - chunk.rows.start
    log_probs[chunk.tokens] = logits[own_row, rows.token[chunk.tokens]] - normaliser[own_row]
    if entropy is not None:
        probabilities = torch.exp(logits - normaliser.unsqueeze(1))
        if dropped is not None:
            logits.masked_fill_(dropped, 0)
        entropy[chunk.rows] = normaliser - probabilities.mul_(logits).sum(1)


def _logit_gradient(
    ctx: Any,
    chunk: Chunk,
    gradients: tuple[Tensor, Tensor, Tensor],
    hidden: Tensor,
    log_normaliser: Tensor,
    entropy: Tensor,
) -> Tensor:
    """Gradient [C, V] of the raw logits: with p = softmax(z), g = sum of the row's token gradients, e = its entropy's,
    l = its log-normaliser's,

    dz_v = [v is a token] g_n - p_v (g - l + e (log p_v + entropy)),   then the slope of temperature, cap and scale.
    """
    grad_log_probs, grad_entropy, grad_normaliser = gradients
    rows = ctx.rows
    logits, slope, dropped = tempered(hidden, ctx.head, rows, chunk)
    log_p = logits.sub_(log_normaliser[chunk.rows].unsqueeze(1))
    own_row = rows.row[chunk.tokens] - chunk.rows.start
    token_gradient = grad_log_probs[chunk.tokens]
    row_gradient = torch.zeros_like(log_normaliser[chunk.rows]).index_add_(0, own_row, token_gradient)
    row_gradient -= grad_normaliser[chunk.rows]
    gradient = torch.exp(log_p).neg_()
    if dropped is not None:
        log_p.masked_fill_(dropped, 0)
    if ctx.with_entropy:
        spread = log_p.add_(entropy[chunk.rows].unsqueeze(1)).mul_(grad_entropy[chunk.rows].unsqueeze(1))
        gradient.mul_(spread.add_(row_gradient.unsqueeze(1)))
    else:
        gradient.mul_(row_gradient.unsqueeze(1))
    gradient.index_put_((own_row, rows.token[chunk.tokens]), token_gradient, accumulate=True)
    return gradient.mul_(slope)
