"""What several methods share: the terms of equations that spell settings out, and the refusal of unread settings."""

from __future__ import annotations

from laurel.errors import ConfigurationError
from laurel.objectives import PromptMean, Reduction, TokenMean


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
