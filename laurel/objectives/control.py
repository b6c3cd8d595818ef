"""How the coefficient of a constraint follows what was measured: one number after every update, from two."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from laurel.errors import ConfigurationError

GREATEST_ERROR = 0.2
"""Ziegler et al. 2019: a measurement far off counts as one that is 20 % off."""


class Control(Protocol):
    """The coefficient of the last update and what was measured in it, to the coefficient of the next one.

    `rule` says how, in the names that an equation has for the two.
    """

    def rule(self, coefficient: str, measured: str) -> str:
        """The update as an equation, for `laurel explain`."""
        ...

    def __call__(self, coefficient: float, measured: float) -> float: ...


@runtime_checkable
class Constraint(Protocol):
    """A dataclass whose strength is one number that a run may change: a penalty in the loss or in the reward.

    Attributes:
        name: what the coefficient is called in metrics and checkpoints; parts of one name share it.
        coefficient: at least 0; at the start of the run.
        control: how it follows what is measured; None: it stays.
    """

    @property
    def name(self) -> str: ...

    @property
    def coefficient(self) -> float: ...

    @property
    def control(self) -> Control | None: ...


@dataclass(frozen=True)
class Proportional:
    """c <- c (1 + gain clip(measured / target - 1, -0.2, 0.2)): a coefficient that is drawn to where the target is met.

    It scales, so that it neither reaches 0 nor leaves it.

    Attributes:
        target: above 0, in the units of the measurement.
        gain: the paper's K, in (0, 1]: at most so much times 20 % per update.

    Source: Ziegler et al. 2019, arXiv 1909.08593, section 2.2.
    """

    target: float
    gain: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.target < math.inf:
            raise ConfigurationError(
                f"The target of a coefficient must be above 0, got {self.target!r}.",
                hint="such as 0.02 nats per token.",
            )
        if not 0 < self.gain <= 1:
            raise ConfigurationError(
                f"The gain of a coefficient must lie in (0, 1], got {self.gain!r}.", hint="0.1 is usual."
            )

    def rule(self, coefficient: str, measured: str) -> str:
        """See `Control`."""
        error = f"clip({measured}/{self.target:g} - 1, +-{GREATEST_ERROR:g})"
        return f"{coefficient} <- {coefficient} (1 + {self.gain:g} {error})"

    def __call__(self, coefficient: float, measured: float) -> float:
        error = min(max(measured / self.target - 1, -GREATEST_ERROR), GREATEST_ERROR)
        return coefficient * (1 + self.gain * error)


@dataclass(frozen=True)
class DualAscent:
    """c <- max(0, c + rate (measured - bound)): the Lagrange multiplier of the constraint measured <= bound.

    The policy minimises its loss plus c times what is bounded, the multiplier climbs the same sum. It rises while the
    bound is broken, falls while it is kept with room to spare, and is 0 for good where the bound does not bind.

    Attributes:
        bound: in the units of the measurement.
        rate: how much the multiplier changes per update and per unit of the excess.

    Source: Arrow, Hurwicz and Uzawa 1958; for policies, Tessler et al. 2018, arXiv 1805.11074, equation 8.
    """

    bound: float
    rate: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.bound):
            raise ConfigurationError(
                f"The bound of a constraint must be a finite number, got {self.bound!r}.",
                hint="give it in units of what is bounded.",
            )
        if not 0 < self.rate < math.inf:
            raise ConfigurationError(
                f"The rate of a multiplier must be above 0, got {self.rate!r}.", hint="start small, such as 0.01."
            )

    def rule(self, coefficient: str, measured: str) -> str:
        """See `Control`."""
        return f"{coefficient} <- max(0, {coefficient} + {self.rate:g} ({measured} - {self.bound:g}))"

    def __call__(self, coefficient: float, measured: float) -> float:
        return max(0.0, coefficient + self.rate * (measured - self.bound))
