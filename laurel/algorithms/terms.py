"""What several methods share: regularisers from settings, and the terms of equations that spell settings out."""

from __future__ import annotations

from laurel.objectives import EntropyBonus, KLPenalty, TokenLoss


def regularisers(kl: float, kl_estimator: str, entropy: float) -> tuple[TokenLoss, ...]:
    """The KL penalty and the entropy bonus, each where its coefficient is not 0."""
    penalty = KLPenalty(kl, kl_estimator)  # made even when off, so that a wrong setting never waits for kl > 0
    return (*((penalty,) if kl else ()), *((EntropyBonus(entropy),) if entropy else ()))


def regularised(kl: float, kl_estimator: str, entropy: float) -> str:
    """The end of an equation: its regularisers."""
    return (f" - {kl:g} {kl_estimator}(pi, ref)" if kl else "") + (f" + {entropy:g} H(pi)" if entropy else "")


def clip_term(low: float, high: float) -> str:
    """The clipped token ratio."""
    return f"min(rho A, clip(rho, {1 - low:g}, {1 + high:g}) A), rho = pi(o_it)/old(o_it)"


def standard_term(ddof: int, epsilon: float) -> str:
    """The standardised advantage of a group."""
    return f"A = (R(o_i) - mean_j R(o_j)) / (std_j R(o_j) [ddof {ddof}] + {epsilon:g})"
