"""What several methods share: regularisers from settings, and the terms of equations that spell settings out."""

from __future__ import annotations

from laurel.errors import ConfigurationError
from laurel.objectives import EntropyBonus, KLPenalty, PromptMean, Reduction, TokenLoss, TokenMean


def regularisers(kl: float, kl_estimator: str, entropy: float, *, usual: str = "k3") -> tuple[TokenLoss, ...]:
    """The KL penalty and the entropy bonus, each where its coefficient is not 0.

    Args:
        usual: the method's default estimator, which counts as left out.

    Raises:
        ConfigurationError: for another estimator where there is no penalty.
    """
    penalty = KLPenalty(kl, kl_estimator)  # made even when off, so that a wrong setting never waits for kl > 0
    if not kl:
        refuse_unread("kl_estimator", kl_estimator, usual, "kl is 0", "set kl, such as kl=0.04")
    return (*((penalty,) if kl else ()), *((EntropyBonus(entropy),) if entropy else ()))


def regularised(kl: float, kl_estimator: str, entropy: float) -> str:
    """The end of an equation: its regularisers."""
    return (f" - {kl:g} {kl_estimator}(pi, ref)" if kl else "") + (f" + {entropy:g} H(pi)" if entropy else "")


def token_mean(denominator: str) -> tuple[Reduction, str]:
    """The mean over tokens in one of its two readings, and how it begins an equation.

    Raises:
        ConfigurationError: for a third.
    """
    if denominator == "step":
        return TokenMean(), "1/(sum_i |o_i|) sum_i sum_t "
    if denominator == "prompt":
        return PromptMean(), "1/P sum_q 1/(sum_(i in q) |o_i|) sum_i sum_t "
    raise ConfigurationError(f"algorithm: unknown denominator {denominator!r}.", hint="use 'step' or 'prompt'.")


def clip_term(low: float, high: float) -> str:
    """The clipped token ratio."""
    return f"min(rho A, clip(rho, {1 - low:g}, {1 + high:g}) A), rho = pi(o_it)/old(o_it)"


def standard_term(ddof: int, epsilon: float) -> str:
    """The standardised advantage of a group."""
    return f"A = (R(o_i) - mean_j R(o_j)) / (std_j R(o_j) [ddof {ddof}] + {epsilon:g})"


def refuse_unread(name: str, value: object, default: object, why: str, instead: str) -> None:
    """Refuse a setting that the others leave without a reader; one that equals its default counts as left out.

    Raises:
        ConfigurationError: naming it, and what would make it count.
    """
    if value != default:
        raise ConfigurationError(
            f"algorithm: '{name}' would not be read: {why}.", hint=f"{instead}, or remove '{name}'."
        )
