"""The surrogate of a trust region: the ratio times the advantage, without any bound of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laurel.objectives.batch import TokenBatch


def surrogate(log_probs: torch.Tensor, old_log_probs: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """loss_t = -rho_t A_t, rho_t = pi(a_t|s_t) / pi_old(a_t|s_t). [N].

    Its value at rho = 1 is -A and its gradient there the policy gradient -A grad log pi. Away from there it is what a
    trust region improves (Schulman et al. 2015, arXiv 1502.05477, equation 14): right for one token under the old
    policy's states, so only as far as the policy stays near. Nothing in it keeps the policy near.
    """
    return -torch.exp(log_probs - old_log_probs) * advantages


@dataclass(frozen=True)
class Surrogate:
    """`surrogate` as the objective of an algorithm; made for `laurel.algorithms.TrustRegion`."""

    corrects_reuse = True

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return surrogate(batch.log_probs, batch.old_log_probs, batch.advantages), {}
