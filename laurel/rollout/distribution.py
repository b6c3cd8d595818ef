"""The distribution that tokens are drawn from, and the draw. Shapes: B rows, V vocabulary.

For logits x and the settings of `laurel.tree.Sampling`:

    q(v)   = softmax(x / temperature)(v)
    kept   = {v : q(v) >= the top_k-th largest q}
             and {v : q(v) >= the smallest q in the smallest set of mass >= top_p}
             and {v : q(v) >= min_p * max q}
    p(v)   = q(v) / q(kept)  for v in kept, else 0
    token  = the first v with  p(0) + ... + p(v) > uniform
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from laurel.tree import Sampling

# Above this width the cumulative sum is done over sums of blocks first, and then within the one block that is hit:
# one pass in float32 instead of a float64 scan over the whole vocabulary.
_BLOCK = 256
_SINGLE_LEVEL = 1024


@dataclass(frozen=True)
class Drawn:
    """Tokens drawn from B distributions.

    Attributes:
        tokens: [B] int64.
        log_probs: [B] float32, of each token under the distribution that drew it.
        kept: [B, V] bool, the tokens that could have been drawn; None if all could.
    """

    tokens: torch.Tensor
    log_probs: torch.Tensor
    kept: torch.Tensor | None


def draw(logits: torch.Tensor, sampling: Sampling, uniforms: torch.Tensor) -> Drawn:
    """Draw one token per row by the inverse of the cumulative distribution.

    Args:
        logits: [B, V] float32.
        sampling: the distribution's settings.
        uniforms: [B] float64 in (0, 1).
    """
    log_probs = torch.log_softmax(logits if sampling.temperature == 1 else logits / sampling.temperature, dim=-1)
    kept = None
    if sampling.truncates:
        kept = kept_tokens(log_probs, sampling)
        log_probs = torch.log_softmax(log_probs.masked_fill(~kept, -torch.inf), dim=-1)
    tokens = inverse_cumulative(log_probs.exp(), uniforms)
    return Drawn(tokens, log_probs.gather(1, tokens[:, None])[:, 0], kept)


def kept_tokens(log_probs: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Which tokens `sampling` keeps, [B, V] bool, from log-probabilities [B, V] that are tempered already.

    Ties at a boundary are kept, so the answer does not depend on the order of the vocabulary.
    """
    vocabulary = log_probs.shape[-1]
    largest = log_probs.max(dim=-1, keepdim=True).values
    threshold = torch.full_like(largest, -torch.inf)
    ranked = None
    if sampling.top_k is not None and sampling.top_k < vocabulary:
        ranked = log_probs.topk(sampling.top_k, dim=-1).values
        threshold = ranked[:, -1:]
    if sampling.top_p < 1:
        # If the top_k tokens do not reach the mass, top_p keeps at least all of them and changes nothing.
        ranked = log_probs.sort(dim=-1, descending=True).values if ranked is None else ranked
        short = (ranked.double().exp().cumsum(dim=-1) < sampling.top_p).sum(dim=-1, keepdim=True)
        last = short.clamp(max=ranked.shape[-1] - 1)
        threshold = torch.maximum(threshold, ranked.gather(1, last))
    if sampling.min_p > 0:
        threshold = torch.maximum(threshold, largest + math.log(sampling.min_p))
    return log_probs >= threshold


def inverse_cumulative(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """[B] int64: per row, the first index whose cumulative probability exceeds `uniforms` times the row's sum.

    Args:
        probabilities: [B, V] float32, non-negative; rows need not sum to exactly 1.
        uniforms: [B] float64 in (0, 1).
    """
    rows, width = probabilities.shape
    if width <= _SINGLE_LEVEL:
        cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
        return _first_above(cumulative, uniforms[:, None] * cumulative[:, -1:])[:, 0]
    blocks = torch.nn.functional.pad(probabilities, (0, -width % _BLOCK)).view(rows, -1, _BLOCK)
    sums = blocks.sum(dim=-1).double()
    cumulative = sums.cumsum(dim=-1)
    target = uniforms[:, None] * cumulative[:, -1:]
    block = _first_above(cumulative, target)
    rest = target - (cumulative.gather(1, block) - sums.gather(1, block))
    rest = rest.clamp(min=0)  # rounding; a token of probability zero must not be the first above
    inside = blocks.gather(1, block[:, :, None].expand(rows, 1, _BLOCK))[:, 0].cumsum(dim=-1, dtype=torch.float64)
    return (block * _BLOCK + _first_above(inside, rest))[:, 0]


def _first_above(cumulative: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """[B, 1]: the first index with `cumulative > target`; rounding may not push it past the last possible token."""
    below_total = torch.nextafter(cumulative[:, -1:], torch.zeros_like(target))
    found = torch.searchsorted(cumulative, torch.minimum(target, below_total), right=True)
    return found.clamp(max=cumulative.shape[-1] - 1)  # beyond the end only where the sums are not finite
