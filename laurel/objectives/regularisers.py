"""What holds a policy: nearness to a reference, and entropy. Both are per-token losses beside the objective."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laurel.errors import ConfigurationError
from laurel.objectives.batch import TokenBatch


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


@dataclass(frozen=True)
class KLPenalty:
    """coefficient * KL(policy, reference), estimated from the drawn token, in the loss.

    Over the tokens t of a rollout: sum_t k(log pi(a_t|s_t), log ref(a_t|s_t)). The states s_t are taken as given: the
    gradient holds each next-token distribution near the reference's and ignores that a token also decides where the
    rollout goes next. That other part of the whole sequence's gradient is left out.

    Attributes:
        coefficient: beta >= 0.
        estimator: "k3" (GRPO's: gradient of KL(ref, pi) at each state) or "k2" (gradient of KL(pi, ref)). "k1" is
            refused: inside a loss its expected gradient is zero.

    Diagnostics: `kl/reference`, the k3 estimate in nats per token, whatever is minimised.
    Source: Schulman, "Approximating KL divergence" (2020); GRPO, arXiv 2402.03300, equation 4.
    """

    coefficient: float
    estimator: str = "k3"

    needs_reference = True

    def __post_init__(self) -> None:
        if not self.coefficient >= 0:
            raise ConfigurationError(f"The KL coefficient must not be negative, got {self.coefficient!r}.")
        if self.estimator == "k1":
            raise ConfigurationError(
                "The estimator k1 has no effect inside a loss: its expected gradient is zero.",
                hint="use 'k2' (gradient of KL(policy, reference)) or 'k3' (GRPO's).",
            )
        if self.estimator not in ESTIMATORS:
            raise ConfigurationError(f"Unknown KL estimator {self.estimator!r}.", hint="use 'k2' or 'k3'.")

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if batch.reference_log_probs is None:
            raise ConfigurationError(
                "A KL penalty needs a reference policy, and there is none.", hint="name one, or set kl to 0."
            )
        loss = self.coefficient * ESTIMATORS[self.estimator](batch.log_probs, batch.reference_log_probs)
        return loss, {"kl/reference": k3(batch.log_probs.detach(), batch.reference_log_probs)}


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
