"""How a method is held: near a reference, undecided, within a bound. One place turns the settings into parts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from laurel.algorithms.terms import refuse_unread
from laurel.errors import ConfigurationError
from laurel.objectives import (
    Budget,
    Control,
    DualAscent,
    EntropyBonus,
    KLPenalty,
    KLReward,
    Penalty,
    Proportional,
    SamplerCorrection,
    TokenLoss,
)
from laurel.objectives.penalties import ANSWER_TOKENS

Place = Literal["loss", "reward"]
Estimator = Literal["k1", "k2", "k3", "exact"]
Rule = Literal["fixed", "adaptive", "lagrangian"]


@dataclass(frozen=True)
class KL:
    """The pull to the reference policy: `kl=0.05` is short for `kl=KL(0.05)`, in a recipe for {coefficient: 0.05}.

    In the reward it is part of the return that credit is given for, token by token: the expected gradient is exactly
    that of E[R] - coefficient KL(pi, ref) over whole rollouts (`laurel.objectives.KLReward`). In the loss every state
    is held by itself, with less noise, and how a token leads to later states is left out
    (`laurel.objectives.KLPenalty`).

    Attributes:
        coefficient: beta, in units of reward per nat; with a control, where it starts. 0 needs no reference.
        place: "loss" or "reward"; None: where the method's paper has it.
        estimator: in the loss "k2", "k3" or "exact" (the sum over the vocabulary); in the reward "k1" or "exact", whose
            other half then stands in the loss. None: the method's own in its place, else "k3" and "k1".
        control: "fixed"; "adaptive": the coefficient is scaled towards `target`, as Ziegler et al. do; "lagrangian": it
            is the multiplier of KL <= target, and 0 where that holds by itself.
        target: the KL(pi, ref) to hold, or the most there may be, in nats per token, as `kl/reference` shows it.
        rate: how fast the coefficient follows: the gain of `Proportional` or the rate of `DualAscent`.
    """

    coefficient: float = 0.0
    place: Place | None = None
    estimator: Estimator | None = None
    control: Rule = "fixed"
    target: float | None = None
    rate: float = 0.1

    def __post_init__(self) -> None:
        for name, known in (("place", Place), ("estimator", Estimator), ("control", Rule)):
            value = getattr(self, name)
            if value not in get_args(known) and not (value is None and name != "control"):
                raise ConfigurationError(f"kl: unknown {name} {value!r}.", hint=f"use {', '.join(get_args(known))}.")
        if self.control == "fixed":
            refuse_unread("kl.target", self.target, None, "kl.control is 'fixed'", "set kl.control to 'adaptive'")
            refuse_unread("kl.rate", self.rate, KL.rate, "kl.control is 'fixed'", "set kl.control to 'adaptive'")
        elif self.target is None:
            raise ConfigurationError(
                f"kl: the control '{self.control}' needs a 'target'.", hint="such as target=0.02, in nats per token."
            )
        if self.control == "adaptive" and not self.coefficient > 0:
            raise ConfigurationError(
                "kl: an adaptive 'coefficient' is scaled, so it must start above 0.", hint="such as coefficient=0.05."
            )

    @property
    def off(self) -> bool:
        """Whether there is no pull, now or later."""
        return self.coefficient == 0 and self.control == "fixed"

    @property
    def rule(self) -> Control | None:
        """What moves the coefficient."""
        if self.target is None:
            return None
        if self.control == "lagrangian" and not self.target > 0:
            raise ConfigurationError(f"kl: 'target' must be above 0, got {self.target!r}.", hint="such as 0.02.")
        return (Proportional if self.control == "adaptive" else DualAscent)(self.target, self.rate)


@dataclass(frozen=True)
class Held:
    """The parts of an algorithm that hold it, and the end of its equation that says so."""

    regularisers: tuple[TokenLoss, ...] = ()
    penalties: tuple[Penalty, ...] = ()
    terms: str = ""
    correction: SamplerCorrection | None = None

    def weighted(self, objective: TokenLoss) -> TokenLoss:
        """The objective, corrected for who drew the tokens where that is asked for; regularisers are not."""
        return objective if self.correction is None else self.correction.around(objective)


def held(
    kl: float | KL,
    entropy: float,
    constraint: Budget | None = None,
    correction: SamplerCorrection | None = None,
    *,
    place: Place = "loss",
    in_loss: Estimator = "k3",
) -> Held:
    """The parts behind the settings `kl`, `entropy`, `constraint` and `sampler_correction` of a method.

    Args:
        place: where the method's paper has the KL, for settings that do not say.
        in_loss: the method's estimator in the loss, likewise.

    Raises:
        ConfigurationError: for a setting that nothing would read, or an estimator that its place refuses.
    """
    if isinstance(kl, bool) or not isinstance(kl, int | float | KL):
        raise ConfigurationError(
            f"algorithm: kl={kl!r} is no pull to the reference.", hint="give a number, such as 0.05, or laurel.KL(...)."
        )
    if not isinstance(constraint, Budget | None):
        raise ConfigurationError(
            f"algorithm: constraint={constraint!r} is no bound.",
            hint=f"such as laurel.Budget('{ANSWER_TOKENS}', at_most=200, rate=1e-4).",
        )
    settings = kl if isinstance(kl, KL) else KL(kl)
    chosen = settings.place or place
    estimator: Estimator = settings.estimator or (in_loss if chosen == "loss" else "k1")
    parts = _parts(settings, chosen, estimator)  # made even when off: no wrong setting waits for kl > 0
    if settings.off:
        for field in fields(KL):
            if field.name != "coefficient":
                value = getattr(settings, field.name)
                refuse_unread(f"kl.{field.name}", value, field.default, "kl is 0", "set kl.coefficient, such as 0.04")
        parts = Held()
    bonus: tuple[TokenLoss, ...] = (EntropyBonus(entropy),) if entropy else ()
    bound: tuple[Penalty, ...] = ()
    terms = correction.term if correction is not None else ""
    terms += parts.terms + (f" + {entropy:g} H(pi)" if entropy else "")
    if constraint is not None:
        bound = (constraint,)
        terms += _budget_terms(constraint)
    return Held((*parts.regularisers, *bonus), (*parts.penalties, *bound), terms, correction)


def _parts(settings: KL, place: Place, estimator: Estimator) -> Held:
    control, strength = settings.rule, f"{settings.coefficient:g}"
    follows = ""
    if control is not None:
        follows = f", where beta is {strength} at first, then {control.rule('beta', 'KL(pi, ref)')}"
        strength = "beta"
    if place == "loss":
        penalty = KLPenalty(settings.coefficient, estimator, control)
        name = "KL" if estimator == "exact" else estimator
        return Held((penalty,), terms=f" - {strength} {name}(pi, ref){follows}")
    reward = KLReward(settings.coefficient, estimator, control)
    if estimator == "exact":
        half = KLPenalty(settings.coefficient, estimator, control)
        terms = f" - {strength} KL(pi, ref), with r_t -= {strength} KL(pi, ref at s_t){follows}"
        return Held((half,), (reward,), terms)
    return Held((), (reward,), f", with r_t -= {strength} log(pi(o_t)/ref(o_t)){follows}")


def _budget_terms(budget: Budget) -> str:
    mean = f"mean {budget.part}"
    if budget.at_most is not None:
        bound, sign, excess = f"E[{budget.part}] <= {budget.at_most:g}", "-=", f"{mean} - {budget.at_most:g}"
    else:
        bound, sign, excess = f"E[{budget.part}] >= {budget.at_least:g}", "+=", f"{budget.at_least:g} - {mean}"
    return (
        f", subject to {bound}: R {sign} lambda {budget.part}, where lambda is {budget.coefficient:g} at first, then "
        f"lambda <- max(0, lambda + {budget.rate:g} ({excess}))"
    )
