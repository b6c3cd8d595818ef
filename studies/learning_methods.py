"""The settings under which the named methods learn the two tasks: one per family, chosen once, for all seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from laurel import CriticSettings, OptimiserSettings
from laurel.algorithms import METHODS, Algorithm, Asked, Compared, Demonstrated, Sampled
from laurel.credit import ProcessScores

BETAS = (0.9, 0.99)
"""Short runs: the second moment has to forget the first steps."""


@dataclass(frozen=True)
class Family:
    """Methods that share their settings.

    Attributes:
        title: what they have in common.
        members: their names; `CONTROLS` may be among them.
        entropy: coefficient of the bonus (0: the methods have none), in the units of their advantages: standardised
            ones are a few times as large here as those in units of the return.
        learning_rate: of the policy at the start, falling to 0 at the last step; None where there is no optimiser.
        critic_rate: of the critic.
        settings: of the methods, beside the entropy.
    """

    title: str
    members: tuple[str, ...]
    entropy: float
    learning_rate: float | None = 3e-3
    critic_rate: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def optimiser(self) -> OptimiserSettings | None:
        if self.learning_rate is None:
            return None
        return OptimiserSettings(learning_rate=self.learning_rate, betas=BETAS, schedule="linear")

    @property
    def critic(self) -> CriticSettings | None:
        if self.critic_rate is None:
            return None
        return CriticSettings(optimiser=OptimiserSettings(learning_rate=self.critic_rate, betas=BETAS))


FAMILIES = (
    Family("advantages in units of the return", ("remax", "rloo", "dr_grpo"), entropy=0.1),
    # Without a baseline the noise is greater: at the rate of its neighbours not every start solved `letters`.
    Family("advantages without a baseline", ("reinforce",), entropy=0.1, learning_rate=2e-3),
    Family("advantages standardised by prompt", ("cispo", "dapo", "gigpo", "grpo", "gspo"), entropy=0.3),
    Family("advantages standardised over the step", ("reinforce_plus_plus",), entropy=0.1),
    Family(
        "values by continuations",
        ("vine_ppo",),
        entropy=0.05,
        settings={"every": 1, "continuations": 3, "budget": 9},
    ),
    # The limits are rules of these tasks: nothing would have followed where they cut.
    Family(
        "a learned critic, four epochs",
        ("ppo", "turn_ppo"),
        entropy=0.02,
        learning_rate=2e-3,
        critic_rate=2e-3,
        settings={"bootstrap": False},
    ),
    # No method of this family has a bonus. A judge that may err leaves the loser of a pair a chance, so that
    # answers which lost once are still tried.
    Family(
        "pairs of one's own samples",
        ("online_dpo",),
        entropy=0.0,
        settings={"beta": 0.5, "label_smoothing": 0.05},
    ),
    # It has no baseline and no bonus: at 3e-3 one start of seven (100 to 106) did not solve `letters`, at 2e-3 all did.
    Family("cloning of what was accepted", ("star",), entropy=0.0, learning_rate=2e-3),
    Family(
        "a trust region",
        ("trpo",),
        entropy=0.03,
        learning_rate=None,
        settings={"maximum_kl": 0.01, "iterations": 5},
    ),
)
CONTROLS: Mapping[str, tuple[str, Mapping[str, Any]]] = {"myopic turn_ppo": ("turn_ppo", {"discount": 0.0})}
"""Name to method and settings. With a discount of 0 a turn gets what it earned itself: myopic on purpose."""


def family_of(name: str) -> Family:
    """The family that a method, or the method of a control, belongs to."""
    method = CONTROLS[name][0] if name in CONTROLS else name
    return next(family for family in FAMILIES if method in family.members)


def settings_of(name: str, longest: int) -> dict[str, Any]:
    """All settings of a method that differ from its defaults, for answers of at most `longest` tokens."""
    method, changed = CONTROLS.get(name, (name, {}))
    family = family_of(name)
    own: dict[str, Any] = {"dr_grpo": {"length": longest}, "dapo": {"maximum_draws": 2}}.get(method, {})
    bonus = {"entropy": family.entropy} if family.entropy else {}
    return {**bonus, **family.settings, **own, **changed}


def algorithm(name: str, longest: int) -> Algorithm:
    """The method, or control, of this name for answers of at most `longest` tokens."""
    return METHODS[CONTROLS[name][0] if name in CONTROLS else name](**settings_of(name, longest))


def runnable() -> list[str]:
    """The methods that can run, by name."""
    return [name for name in METHODS if name not in left_out()]


def left_out() -> dict[str, str]:
    """The methods that cannot run on tasks without written answers, or have no settings here, and why."""
    reasons: dict[type, str] = {
        Demonstrated: "learns from demonstrated answers; nobody wrote any for these tasks",
        Compared: "learns from judged answers that someone else wrote; it samples nothing, so it is not online",
        Asked: "asks an expert, and learns from no reward",
    }
    found = {}
    for name, made in ((name, method()) for name, method in METHODS.items()):
        source = made.source
        if isinstance(source, Sampled) and (source.self_play or source.recovers is not None):
            found[name] = reasons[Demonstrated]
        elif isinstance(source, Sampled) and source.taught:
            found[name] = "moves towards a teacher that knows the answers; it does not find them"
        elif type(source) in reasons:
            found[name] = reasons[type(source)]
        elif isinstance(made.credit, ProcessScores):
            found[name] = "needs a scorer of steps; an answer of one letter has a single step, and nothing scores it"
        elif not any(name in family.members for family in FAMILIES):
            found[name] = "no family names its settings"
    return found
