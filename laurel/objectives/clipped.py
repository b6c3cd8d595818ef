"""The clipped ratio: several optimiser steps on one batch, each token's incentive cut off once it moved far enough."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laurel.errors import ConfigurationError
from laurel.objectives.batch import TokenBatch


def clipped(
    log_probs: torch.Tensor,
    old_log_probs: torch.Tensor,
    advantages: torch.Tensor,
    *,
    low: float,
    high: float,
    dual: float | None = None,
) -> torch.Tensor:
    """loss_t = -min(rho_t A_t, clip(rho_t, 1 - low, 1 + high) A_t), rho_t = pi(a_t|s_t) / pi_old(a_t|s_t) > 0. [N].

    The gradient is zero exactly where (A > 0 and rho > 1 + high) or (A < 0 and rho < 1 - low); elsewhere it is
    -rho A grad log pi. The ratio is never negative; the advantage and the log-ratio can be. Clipping removes the
    incentive, it does not hold the policy: it is no trust region.

    With `dual` = c > 1, a bad token costs at most -c A (loss = min(loss, -c A) where A < 0): the gradient also
    vanishes where A < 0 and rho > c, so that one token that became likely cannot dominate a step.

    Source: PPO, arXiv 1707.06347, equation 7; high > low is "clip-higher" (DAPO, arXiv 2503.14476, equation 10); dual
    clip, arXiv 1912.09729, equation 5.
    """
    ratio = torch.exp(log_probs - old_log_probs)
    loss = -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
    if dual is None:
        return loss
    return torch.where(advantages < 0, torch.minimum(loss, -dual * advantages), loss)


def check_range(low: float, high: float) -> None:
    """A clip range needs 0 <= low <= 1 and high >= 0.

    Raises:
        ConfigurationError: it is another.
    """
    if not 0 <= low <= 1 or not high >= 0:
        raise ConfigurationError(
            f"A clip range needs 0 <= low <= 1 and high >= 0, got low {low!r} and high {high!r}.",
            hint="PPO uses 0.2 for both; DAPO 0.2 and 0.28; low 1 removes the lower bound.",
        )


def clip_diagnostics(
    log_ratio: torch.Tensor, advantages: torch.Tensor, low: float, high: float
) -> dict[str, torch.Tensor]:
    """`ratio/mean`, `ratio/clipped_low`, `ratio/clipped_high` and `ratio/kl_old`, [N] each, without gradient."""
    log_ratio = log_ratio.detach()
    ratio = torch.exp(log_ratio)
    return {
        "ratio/mean": ratio,
        "ratio/clipped_low": ((ratio < 1 - low) & (advantages < 0)).to(ratio.dtype),
        "ratio/clipped_high": ((ratio > 1 + high) & (advantages > 0)).to(ratio.dtype),
        "ratio/kl_old": torch.expm1(log_ratio) - log_ratio,
    }


@dataclass(frozen=True)
class ClippedRatio:
    """`clipped` as the objective of an algorithm.

    Attributes:
        low, high: how far below and above 1 a ratio may still be rewarded; 0 <= low <= 1, high >= 0.
        dual: the most that a bad token may cost, in units of its advantage; above 1, None for no limit.

    Diagnostics: `ratio/mean`, `ratio/clipped_low` and `ratio/clipped_high` (fractions of tokens without gradient) and
    `ratio/kl_old`, the estimate rho - 1 - log rho of KL(old, now). On the first optimiser step of a batch all ratios
    are 1 and the others are 0: that is right, not a bug.
    """

    low: float = 0.2
    high: float = 0.2
    dual: float | None = None

    corrects_reuse = True

    def __post_init__(self) -> None:
        check_range(self.low, self.high)
        if self.dual is not None and not self.dual > 1:
            raise ConfigurationError(f"The dual clip must be above 1, got {self.dual!r}.", hint="its paper uses 3.")

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = clipped(
            batch.log_probs, batch.old_log_probs, batch.advantages, low=self.low, high=self.high, dual=self.dual
        )
        log_ratio = batch.log_probs - batch.old_log_probs
        return loss, clip_diagnostics(log_ratio, batch.advantages, self.low, self.high)
