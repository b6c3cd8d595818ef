"""Importance weights without gradient: a ratio that scales the score function instead of being differentiated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from laurel.errors import ConfigurationError, LearnerError
from laurel.objectives.batch import TokenBatch, TokenLoss

Mode = Literal["truncate", "mask"]
Level = Literal["token", "sequence"]


def capped_weight(log_ratio: torch.Tensor, maximum: float, *, mode: str = "truncate") -> torch.Tensor:
    """w = exp(log_ratio), bounded, [N], without gradient.

    "truncate": min(w, maximum). "mask": w where w <= maximum, else 0: the token is left out rather than held down.
    """
    weight = torch.exp(log_ratio.detach())
    if mode == "mask":
        return torch.where(weight <= maximum, weight, torch.zeros_like(weight))
    return weight.clamp(max=maximum)


@dataclass(frozen=True)
class WeightedPolicyGradient:
    """loss_t = -stop_gradient(min(rho_t, maximum_ratio)) A_t log pi(a_t|s_t): CISPO. [N].

    Unlike under a clip, no token ever loses its gradient; only its weight is bounded.

    Attributes:
        maximum_ratio: the bound on rho itself. The paper writes it 1 + epsilon_high; libraries that call a bound of 5
            "epsilon" mean this number too. There is no lower bound (the paper: epsilon_low is set large).

    Diagnostics: `ratio/mean`, `ratio/capped` (fraction at the bound), `ratio/kl_old`.
    Source: MiniMax-M1, arXiv 2506.13585, equations 4 and 5.
    """

    maximum_ratio: float = 5.0

    corrects_reuse = True

    def __post_init__(self) -> None:
        _check_maximum(self.maximum_ratio)

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        difference = batch.log_probs - batch.old_log_probs
        weight = capped_weight(difference, self.maximum_ratio)
        log_ratio = difference.detach()
        ratio = torch.exp(log_ratio)
        diagnostics = {
            "ratio/mean": ratio,
            "ratio/capped": (ratio > self.maximum_ratio).to(ratio.dtype),
            "ratio/kl_old": torch.expm1(log_ratio) - log_ratio,
        }
        return -weight * batch.advantages * batch.log_probs, diagnostics


@dataclass(frozen=True)
class SamplerCorrection:
    """How tokens are weighted that something else than the present weights drew: older ones, or another engine.

    w = old / sampler, bounded: how likely the learner's policy was to draw a token, against whoever drew it. At "token"
    level per token; at "sequence" level the product over the rollout, which is exact in expectation without a bound,
    and has the larger variance. Where sampler and learner are one, w is 1.

    Attributes:
        maximum: the bound on w; infinity for none.
        mode: "truncate" (TIS: min(w, maximum)) or "mask" (MIS: 0 above it).
        level: "token" or "sequence". A token that several rollouts share counts for the first of them.
    """

    maximum: float = 2.0
    mode: Mode = "truncate"
    level: Level = "token"

    def __post_init__(self) -> None:
        _check_maximum(self.maximum)
        if self.mode not in get_args(Mode) or self.level not in get_args(Level):
            raise ConfigurationError(
                f"A sampler correction has no mode {self.mode!r} at level {self.level!r}.",
                hint=f"modes: {', '.join(get_args(Mode))}; levels: {', '.join(get_args(Level))}.",
            )

    def around(self, objective: TokenLoss) -> WeightedObjective:
        """The objective with these weights."""
        return WeightedObjective(objective, self)

    @property
    def term(self) -> str:
        """The weight in an equation, where mu is what drew a token."""
        ratio = "old(o_it)/mu(o_it)" if self.level == "token" else "old(o_i)/mu(o_i)"
        masked = f"{ratio} (0 above {self.maximum:g})"
        bounded = f"min({ratio}, {self.maximum:g})" if self.mode == "truncate" else masked
        return f", every token weighted by {bounded}"


@dataclass(frozen=True)
class WeightedObjective:
    """Another objective, each token weighted by `SamplerCorrection`. [N].

    Around a clipped ratio this is decoupled PPO (arXiv 2505.24298, equation 5): the clip is centred on the policy at
    the start of the update, the weight corrects for the older or other policy that drew the tokens.

    Attributes:
        objective: what is weighted.
        correction: the weights.

    Diagnostics: those of the objective, and `sampler/weight` (mean 1 where sampler and learner agree),
    `sampler/bounded`.

    Raises:
        LearnerError: a token has no sampler log-probability: it was demonstrated, not drawn.
    """

    objective: TokenLoss
    correction: SamplerCorrection

    corrects_sampler = True

    @property
    def corrects_reuse(self) -> bool:
        """Whether the weighted objective has a ratio of its own."""
        return getattr(self.objective, "corrects_reuse", False)

    @property
    def needs_reference(self) -> bool:
        """Whether the weighted objective reads the reference."""
        return getattr(self.objective, "needs_reference", False)

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        bound = self.correction
        log_ratio = batch.old_log_probs - batch.sampler_log_probs
        if not bool(torch.isfinite(log_ratio).all()):
            raise LearnerError(
                "A token without a sampler log-probability cannot be corrected for its sampler.",
                hint="leave the sampler correction out for demonstrations.",
            )
        if bound.level == "sequence":
            _, index = torch.unique(batch.rollout, return_inverse=True)
            log_ratio = torch.zeros_like(log_ratio).index_add(0, index, log_ratio)[index]
        weight = capped_weight(log_ratio, bound.maximum, mode=bound.mode)
        loss, diagnostics = self.objective(batch)
        bounded = (torch.exp(log_ratio) > bound.maximum).to(weight.dtype)
        return weight * loss, {**diagnostics, "sampler/weight": weight, "sampler/bounded": bounded}


def _check_maximum(maximum: float) -> None:
    if not maximum > 0:
        raise ConfigurationError(
            f"The bound on an importance weight must be above 0, got {maximum!r}.", hint="2 to 5 is usual."
        )
