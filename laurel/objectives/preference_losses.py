"""Losses over pairs of answers, and over single answers that are good or bad: pure functions of log-probabilities.

log pi(y) is the sum over the answer's tokens, log-ratio(y) = log pi(y) - log ref(y), w the better answer and l the
worse one. All are differentiable, element by element, in whatever shape [P] and precision they are given.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid


def dpo_loss(
    chosen_log_ratios: torch.Tensor, rejected_log_ratios: torch.Tensor, *, beta: float, label_smoothing: float = 0.0
) -> torch.Tensor:
    """-(1 - e) log sigmoid(m) - e log sigmoid(-m), m = beta (log-ratio(w) - log-ratio(l)), e = `label_smoothing`.

    The maximum-likelihood fit of the Bradley-Terry model whose reward is beta * log-ratio. With e = 0 its optimum on
    deterministic preferences is m = infinity; with e > 0 it is m = log((1 - e) / e).

    Example: equal log-ratios give log 2; m = log 3 gives log(4/3).
    Source: DPO, arXiv 2305.18290, equation 7; e > 0 is the conservative form, Mitchell 2023, "A note on DPO with noisy
    preferences", equation 3.
    """
    margins = beta * (chosen_log_ratios - rejected_log_ratios)
    return -(1 - label_smoothing) * logsigmoid(margins) - label_smoothing * logsigmoid(-margins)


def robust_dpo_loss(
    chosen_log_ratios: torch.Tensor, rejected_log_ratios: torch.Tensor, *, beta: float, label_smoothing: float
) -> torch.Tensor:
    """(-(1 - e) log sigmoid(m) + e log sigmoid(-m)) / (1 - 2 e), with m and e as in `dpo_loss`, 0 <= e < 1/2.

    Where labels were flipped with probability e, its expectation is the DPO loss of the unflipped labels. It is
    unbounded below where m is very negative.

    Example: m = log 3 and e = 1/4 give (3/4 log(4/3) - 1/4 log 4) / (1/2).
    Source: robust DPO, arXiv 2403.00409, equation 12.
    """
    margins = beta * (chosen_log_ratios - rejected_log_ratios)
    return (-(1 - label_smoothing) * logsigmoid(margins) + label_smoothing * logsigmoid(-margins)) / (
        1 - 2 * label_smoothing
    )


def ipo_loss(chosen_log_ratios: torch.Tensor, rejected_log_ratios: torch.Tensor, *, tau: float) -> torch.Tensor:
    """(log-ratio(w) - log-ratio(l) - 1 / (2 tau))^2: the margin is drawn to a finite value, whatever the preferences.

    Example: equal log-ratios and tau = 1/2 give 1.
    Source: IPO, arXiv 2310.12036, equation 17.
    """
    return (chosen_log_ratios - rejected_log_ratios - 1 / (2 * tau)) ** 2


def kto_loss(
    log_ratios: torch.Tensor,
    desirable: torch.Tensor,
    divergence: torch.Tensor,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> torch.Tensor:
    """Of a good answer lambda_D (1 - sigmoid(beta (log-ratio(y) - z))), of a bad one lambda_U (1 - sigmoid(beta (z -
    log-ratio(y)))).

    Args:
        log_ratios: [N].
        desirable: [N] bool, which answers are good.
        divergence: z >= 0, the estimate of KL(policy, reference), a constant; see `mismatched_divergence`.

    Example: a log-ratio equal to z gives lambda / 2.
    Source: KTO, arXiv 2402.01306, equation 8.
    """
    above = beta * (log_ratios - divergence)
    good = desirable_weight * torch.sigmoid(-above)
    bad = undesirable_weight * torch.sigmoid(above)
    return torch.where(desirable, good, bad)


def mismatched_divergence(log_ratios: torch.Tensor) -> torch.Tensor:
    """max(0, mean log-ratio) over answers to *other* prompts, a scalar without gradient: KTO's z, section 4.1 there."""
    return log_ratios.detach().mean().clamp(min=0) if len(log_ratios) else log_ratios.new_zeros(())


def odds_ratio_loss(chosen_means: torch.Tensor, rejected_means: torch.Tensor, *, weight: float) -> torch.Tensor:
    """-log p_w - weight * log sigmoid(log odds(p_w) - log odds(p_l)), with p the geometric mean probability of an
    answer's tokens and odds(p) = p / (1 - p).

    Args:
        chosen_means, rejected_means: log p, the mean over tokens of log pi; below 0.

    Example: p_w = 1/2, p_l = 1/4: odds 1 and 1/3, so log 2 + weight * log(4/3).
    Source: ORPO, arXiv 2403.07691, equations 4, 6 and 7.
    """
    return -chosen_means - weight * logsigmoid(_log_odds(chosen_means) - _log_odds(rejected_means))


def simpo_loss(chosen_means: torch.Tensor, rejected_means: torch.Tensor, *, beta: float, margin: float) -> torch.Tensor:
    """-log sigmoid(beta * mean log pi(w) - beta * mean log pi(l) - margin), with means over an answer's tokens.

    Example: means that differ by margin / beta give log 2.
    Source: SimPO, arXiv 2405.14734, equation 6.
    """
    return -logsigmoid(beta * (chosen_means - rejected_means) - margin)


def _log_odds(log_probs: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)) without loss of digits at either end; a probability of 1 counts as the next number below."""
    below_one = log_probs.clamp(max=-torch.finfo(log_probs.dtype).eps)
    near_one = torch.log(-torch.expm1(below_one))
    near_zero = torch.log1p(-torch.exp(below_one))
    return below_one - torch.where(below_one > -0.6931471805599453, near_one, near_zero)
