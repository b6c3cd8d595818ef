"""What an objective sees, and what it returns: per-token values. How they are averaged is the reduction's business."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class TokenBatch:
    """The scored tokens of one micro-batch, N of them, for objectives and regularisers. All tensors are [N].

    Attributes:
        log_probs: log-probability now, with gradient.
        old_log_probs: at the start of the update, without gradient (equal to `log_probs` in value when there is one
            update per batch).
        sampler_log_probs: under the distribution that drew the token; NaN for demonstrations.
        entropy: of the distribution at the token, in nats, with gradient.
        advantages: the credit.
        rollout: index of the rollout (leaf) that the token belongs to, unique within the step; for a token that
            several rollouts share, the first of them.
        reference_log_probs: under the named reference, or None when nothing asks for it.
        reference_divergence: KL(policy, reference) of the distribution at the token, summed over the vocabulary, in
            nats, with gradient, or the form of divergence that the objective asks for; None when nothing asks for it.
        log_normaliser: logsumexp of the logits that predict the token, with gradient; None where there are none.
    """

    log_probs: torch.Tensor
    old_log_probs: torch.Tensor
    sampler_log_probs: torch.Tensor
    entropy: torch.Tensor
    advantages: torch.Tensor
    rollout: torch.Tensor
    reference_log_probs: torch.Tensor | None = None
    reference_divergence: torch.Tensor | None = None
    log_normaliser: torch.Tensor | None = None


class TokenLoss(Protocol):
    """A per-token loss [N] to be minimised, and diagnostics as per-token values [N] (averaged by the same weights)."""

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]: ...
