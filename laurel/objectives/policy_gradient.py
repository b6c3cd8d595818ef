"""The plain gradient: log-probability times advantage, and its special case of advantage 1, cloning."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laurel.objectives.batch import TokenBatch


def policy_gradient(log_probs: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """loss_t = -A_t log pi(a_t | s_t). [N], [N] -> [N].

    Its gradient is the score-function estimator -A_t grad log pi (Williams 1992); its value means nothing. Right only
    for tokens that the current policy drew.
    """
    return -advantages * log_probs


def negative_log_likelihood(log_probs: torch.Tensor) -> torch.Tensor:
    """loss_t = -log pi(a_t | s_t), in nats. [N] -> [N]. Maximum likelihood: behaviour cloning."""
    return -log_probs


@dataclass(frozen=True)
class PolicyGradient:
    """`policy_gradient` as the objective of an algorithm. It has no ratio: one optimiser step per batch."""

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return policy_gradient(batch.log_probs, batch.advantages), {}


@dataclass(frozen=True)
class NegativeLogLikelihood:
    """`negative_log_likelihood` as the objective of an algorithm: imitates whatever is there, whoever wrote it.

    Diagnostics: `cloning/token_probability`, the mean probability of the demonstrated token.
    """

    corrects_reuse = True

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        probability = batch.log_probs.detach().exp()
        return negative_log_likelihood(batch.log_probs), {"cloning/token_probability": probability}
