"""What holds a policy: nearness to a reference, and entropy. Both are per-token losses beside the objective."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laurel.errors import ConfigurationError
from laurel.objectives.batch import TokenBatch
from laurel.objectives.control import Control
from laurel.objectives.penalties import check_coefficient


def k1(log_probs: torch.Tensor, reference_log_probs: torch.Tensor) -> torch.Tensor:
    """log pi - log ref. [N]. Unbiased for KL(pi, ref) when pi drew the token; may be negative.

    Never a loss: its gradient is grad log pi, whose expectation is zero whatever the reference is.
    """
    return log_probs - reference_log_probs


def k2(log_probs: torch.Tensor, reference_log_probs: torch.Tensor) -> torch.Tensor:
    """(log pi - log ref)^2 / 2. [N]. Biased in value (third order in the distance); its gradient is KL(pi, ref)'s."""
    return (log_probs - reference_log_probs).square() / 2


def k3(log_probs: torch.Tensor, reference_log_probs: torch.Tensor) -> torch.Tensor:
    """r - 1 - log r with r = ref / pi. [N]. Unbiased in value, never negative, little variance where they are near.

    Its gradient is (1 - r) grad log pi, in expectation the gradient of the *other* divergence, KL(ref, pi).
    """
    log_ratio = reference_log_probs - log_probs
    return torch.expm1(log_ratio) - log_ratio


ESTIMATORS = {"k2": k2, "k3": k3}
LOSS_ESTIMATORS = (*ESTIMATORS, "exact")


@dataclass(frozen=True)
class KLPenalty:
    """coefficient * KL(policy, reference) at the states of a rollout, in the loss.

    Over the tokens t of a rollout: sum_t k(log pi(a_t|s_t), log ref(a_t|s_t)), or the sum over the vocabulary at s_t.
    The states s_t are taken as given: the gradient holds each next-token distribution near the reference's and ignores
    that a token also decides where the rollout goes next. That other part of the whole sequence's gradient is left
    out, so where answers have several tokens the optimum is not that of E[R] - beta KL; `KLReward` has it.

    | estimator | value              | expected gradient at a state                             |
    |-----------|--------------------|----------------------------------------------------------|
    | k1        | unbiased           | 0, whatever the reference is: refused                    |
    | k2        | biased, 3rd order  | that of KL(pi, ref)                                      |
    | k3        | unbiased           | that of KL(ref, pi), the other divergence                |
    | exact     | exact              | that of KL(pi, ref), without the noise of the drawn token |

    Attributes:
        coefficient: beta >= 0; at the start, where it is controlled.
        estimator: "k3" (GRPO's), "k2" or "exact", which costs a pass of the reference per optimiser step and the
            logits of both once more.
        control: how the coefficient follows the measured KL; None: it stays.

    Source: Schulman, "Approximating KL divergence" (2020); GRPO, arXiv 2402.03300, equation 4.
    """

    coefficient: float
    estimator: str = "k3"
    control: Control | None = None

    name = "kl"
    needs_reference = True

    def __post_init__(self) -> None:
        check_coefficient(self.coefficient)
        if self.estimator == "k1":
            raise ConfigurationError(
                "The KL estimator k1 has no effect inside a loss: its expected gradient is zero.",
                hint="use 'k2' (gradient of KL(policy, reference)), 'k3' (GRPO's) or 'exact'; k1 belongs in the "
                "reward.",
            )
        if self.estimator not in LOSS_ESTIMATORS:
            raise ConfigurationError(f"Unknown KL estimator {self.estimator!r}.", hint="use 'k2', 'k3' or 'exact'.")

    @property
    def needs_divergence(self) -> bool:
        """Whether it reads the sum over the vocabulary."""
        return self.estimator == "exact"

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if self.estimator == "exact" and batch.reference_divergence is not None:
            return self.coefficient * batch.reference_divergence, {}
        if self.estimator == "exact" or batch.reference_log_probs is None:
            raise ConfigurationError(
                "A KL penalty needs a reference policy, and there is none.", hint="name one, or set kl to 0."
            )
        return self.coefficient * ESTIMATORS[self.estimator](batch.log_probs, batch.reference_log_probs), {}


@dataclass(frozen=True)
class EntropyBonus:
    """loss_t = -coefficient * H(pi(. | s_t)), H in nats; the states are taken as given.

    Attributes:
        coefficient: above 0 keeps the policy undecided; below 0 sharpens it.

    Source: Williams and Peng 1991; A3C, arXiv 1602.01783.
    """

    coefficient: float

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return -self.coefficient * batch.entropy, {}
