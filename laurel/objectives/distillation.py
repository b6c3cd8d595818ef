"""How far a learner's next-token distribution is from a teacher's: divergences over the whole vocabulary.

p is the learner's distribution at a position, q the teacher's, and m = w q + (1 - w) p their mixture:

| form           | value                                                   | derivative by the learner's logit z_v     |
|----------------|---------------------------------------------------------|-------------------------------------------|
| forward        | sum_v q_v (log q_v - log p_v)                           | p_v - q_v                                 |
| reverse        | sum_v p_v (log p_v - log q_v)                           | p_v (log p_v/q_v - its p-mean)            |
| jensen_shannon | w sum_v q_v log q_v/m_v + (1 - w) sum_v p_v log p_v/m_v | (1 - w) p_v (log p_v/m_v - its p-mean)    |

(The p-mean is the mean of the logarithm before it under p.)

Forward covers everything that the teacher might say, reverse keeps to what it says most; the generalised
Jensen-Shannon divergence lies between them and never exceeds the entropy of (w, 1 - w). Over w it tends to forward as
w goes to 0, over 1 - w to reverse as w goes to 1 (Agarwal et al. 2023, arXiv 2306.13649, section 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laurel.errors import ConfigurationError
from laurel.objectives.batch import TokenBatch

FORMS = ("forward", "reverse", "jensen_shannon")


@dataclass(frozen=True)
class Divergence:
    """One of the three forms, in nats.

    Attributes:
        form: "forward", "reverse" or "jensen_shannon".
        mixture: w, the teacher's share of the mixture, between 0 and 1; only Jensen-Shannon reads it.
    """

    form: str = "reverse"
    mixture: float = 0.5

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigurationError(f"Unknown divergence {self.form!r}.", hint=f"use one of {', '.join(FORMS)}.")
        if not 0 < self.mixture < 1:
            raise ConfigurationError(
                f"mixture must lie between 0 and 1, got {self.mixture!r}.",
                hint="at the ends the divergence is 0 whatever the learner does; take 'forward' or 'reverse' there.",
            )

    def value(self, log_p: torch.Tensor, log_q: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """[R, V] learner's and teacher's log-probabilities to [R]. Special case: exactly 0 where they are equal.

        Args:
            log_p, log_q: [R, V]; not for automatic differentiation, which `logit_gradient` stands in for.
            left_out: [R, V] tokens that are minus infinity in both, or None.
        """
        if self.form == "reverse":
            return _expected(log_p, log_p - log_q, left_out)
        if self.form == "forward":
            return _expected(log_q, log_q - log_p, left_out)
        log_m = self._mixed(log_p, log_q)
        taught = _expected(log_q, log_q - log_m, left_out).mul_(self.mixture)
        return taught + _expected(log_p, log_p - log_m, left_out).mul_(1 - self.mixture)

    def logit_gradient(
        self, log_p: torch.Tensor, log_q: torch.Tensor, left_out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The derivative of `value` by the logits that `log_p` is the log-softmax of, [R, V]."""
        if self.form == "forward":
            return log_p.exp().sub_(log_q.exp())
        difference = log_p - (log_q if self.form == "reverse" else self._mixed(log_p, log_q))
        if left_out is not None:
            difference.masked_fill_(left_out, 0)
        p = log_p.exp()
        gradient = difference.sub_((p * difference).sum(-1, keepdim=True)).mul_(p)
        return gradient if self.form == "reverse" else gradient.mul_(1 - self.mixture)

    def _mixed(self, log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
        """log m, the mixture's log-probabilities; NaN where both are minus infinity."""
        higher = torch.maximum(log_p, log_q)
        mixed = torch.exp(log_p - higher).lerp_(torch.exp(log_q - higher), self.mixture)
        return mixed.log_().add_(higher)


def _expected(log_weights: torch.Tensor, difference: torch.Tensor, left_out: torch.Tensor | None) -> torch.Tensor:
    """sum_v exp(log_weights_v) difference_v over what was not left out, [R]; `difference` is used up."""
    if left_out is not None:
        difference.masked_fill_(left_out, 0)
    return difference.mul_(log_weights.exp()).sum(-1)


@dataclass(frozen=True)
class Distillation:
    """loss_t = divergence(learner, teacher) of the next-token distributions at token t, whoever wrote the token.

    The states are taken as given: no gradient goes through the choice of where answers lead (as in the paper).

    Diagnostics: `distillation/divergence`, in nats per token.
    """

    divergence: Divergence

    needs_reference = True
    needs_divergence = True
    needs_teacher = True

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        measured = batch.reference_divergence
        if measured is None:
            raise ConfigurationError(
                "Distillation compares the policy with a teacher, and there is none.",
                hint="pass teacher=... to laurel.train.",
            )
        return measured, {"distillation/divergence": measured.detach()}
