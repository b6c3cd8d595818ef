"""One ratio for a whole answer (GSPO), because the reward was given to the whole answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laurel.objectives.batch import TokenBatch
from laurel.objectives.clipped import check_range, clip_diagnostics, clipped


def sequence_log_ratio(log_probs: torch.Tensor, old_log_probs: torch.Tensor, rollout: torch.Tensor) -> torch.Tensor:
    """log s_i of the rollout i of each token, [N]: 1/|o_i| sum over its tokens of (log pi - log old).

    The value is the geometric mean of the token ratios. Its gradient with respect to token t is that of
    log pi(a_t|s_t) alone, undivided (the token form of the paper): with the mean over |o_i| tokens that the sequence
    reduction takes, the whole is the gradient of s_i, and tokens may have advantages of their own.

    A token that several rollouts share counts for the one that `rollout` names.
    Source: GSPO, arXiv 2507.18071, equations 7 and 14.
    """
    _, index = torch.unique(rollout, return_inverse=True)
    difference = (log_probs - old_log_probs).detach()
    sums = torch.zeros(len(index), dtype=difference.dtype, device=difference.device).index_add(0, index, difference)
    mean = sums[index] / torch.bincount(index)[index]
    return mean + (log_probs - log_probs.detach())


@dataclass(frozen=True)
class SequenceRatio:
    """`clipped` on s_i = (pi(o_i) / old(o_i))^(1/|o_i|) in place of the token ratio. All tokens of a rollout must lie
    in one micro-batch, as whole trees do.

    Attributes:
        low, high: how far below and above 1 the ratio may still be rewarded; much smaller than for tokens, because a
            geometric mean moves less.

    Diagnostics: as `ClippedRatio`, of the sequence ratio.
    Source: GSPO, arXiv 2507.18071, equation 5; the defaults are those of its section 5.1.
    """

    low: float = 3e-4
    high: float = 4e-4

    corrects_reuse = True

    def __post_init__(self) -> None:
        check_range(self.low, self.high)

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        log_ratio = sequence_log_ratio(batch.log_probs, batch.old_log_probs, batch.rollout)
        nothing = torch.zeros_like(log_ratio)
        loss = clipped(log_ratio, nothing, batch.advantages, low=self.low, high=self.high)
        return loss, clip_diagnostics(log_ratio, batch.advantages, self.low, self.high)
