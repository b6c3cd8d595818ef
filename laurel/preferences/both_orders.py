"""A judge of two answers, asked in both orders: what it prefers, and how much it goes by the place instead.

l(a, b) is the log-odds that the judge says "the first is better" when a is shown first. One that adds b to whatever
stands first says l(a, b) = s + b and l(b, a) = -s + b, and then

    preference  (l(a, b) - l(b, a)) / 2 = s     the bias cancels, exactly and whatever it is
    position    (l(a, b) + l(b, a)) / 2 = b     and is measured, pair by pair

An average of the probabilities does less: (sigmoid(s + b) + sigmoid(s - b)) / 2 is on the side of s, but nearer to one
half than sigmoid(s); that bias is not cancelled but turned into doubt. So log-odds are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from laurel.errors import ConfigurationError, RewardError, said_by
from laurel.tasks.task import Task
from laurel.tree import Failed

Shown = tuple[Task, str, str]
"""A question to a judge: the task, the answer that is shown first, and the other one."""

Disagreement = Literal["average", "tie", "skip"]
"""What a pair is worth whose verdict turns with the order: what the average says, a tie, or nothing."""

LEAST = 1e-12
"""A judge that is certain, with a probability of 0 or 1, counts as so much less than certain."""


class PairFunction(Protocol):
    """Any function of the task and two answers: the probability that the one shown first is better, in [0, 1]."""

    def __call__(self, task: Task, first: str, second: str, /) -> float: ...


@runtime_checkable
class PairJudging(Protocol):
    """A judge that is asked about many pairs at once, and says log-odds."""

    def log_odds(self, shown: Sequence[Shown]) -> list[float | Failed]:
        """Of the first being better, for each pair in the order in which it is shown; or why there are none."""
        ...


AnyJudge = PairFunction | PairJudging


@dataclass(frozen=True)
class BothOrders:
    """What a judge says of a pair (a, b).

    Attributes:
        forward: the log-odds that a, shown first, is better.
        backward: the log-odds that b, shown first, is better.
    """

    forward: float
    backward: float

    @property
    def preference(self) -> float:
        """The log-odds that a is better, where a constant bias to either place has cancelled."""
        return (self.forward - self.backward) / 2

    @property
    def position(self) -> float:
        """How much the place counts, in log-odds; above 0 the first place is favoured."""
        return (self.forward + self.backward) / 2

    @property
    def said_first(self) -> float:
        """The probability that it says "the first", averaged over both orders; 1/2 without a bias."""
        return (sigmoid(self.forward) + sigmoid(self.backward)) / 2

    @property
    def flips(self) -> bool:
        """Whether its verdict turns with the order: it names the same place twice, or is undecided only once."""
        return _sign(self.forward) != -_sign(self.backward)

    def probability(self, *, ties: bool = False) -> float:
        """That a is better; with `ties` 1/2 where the verdict turns with the order."""
        return 0.5 if ties and self.flips else sigmoid(self.preference)

    def verdict(self, disagreement: Disagreement = "average") -> float | None:
        """1.0: a; 0.0: b; 0.5: they are equal; None: nothing is said."""
        if self.flips and disagreement != "average":
            return 0.5 if disagreement == "tie" else None
        return (1 + _sign(self.preference)) / 2


def in_both_orders(judge: AnyJudge, pairs: Sequence[Shown]) -> list[BothOrders | Failed]:
    """What a judge says of each pair; a pair with one order in which it says nothing is a failure.

    Args:
        judge: a function of (task, first, second), or an object with `log_odds`, which is asked once about all.
    """
    shown = [(task, *sides) for task, a, b in pairs for sides in ((a, b), (b, a))]
    said = judge.log_odds(shown) if isinstance(judge, PairJudging) else [_called(judge, *asked) for asked in shown]
    if len(said) != len(shown):
        raise RewardError(
            f"The judge gave {len(said)} answers to {len(shown)} questions.", hint="one for each, in their order."
        )
    results: list[BothOrders | Failed] = []
    for forward, backward in zip(said[::2], said[1::2], strict=True):
        if isinstance(forward, Failed) or isinstance(backward, Failed):
            results.append(forward if isinstance(forward, Failed) else backward)  # type: ignore[arg-type]
        else:
            results.append(BothOrders(forward, backward))
    return results


def sigmoid(log_odds: float) -> float:
    """1 / (1 + exp(-x)), of any finite x."""
    part = math.exp(-abs(log_odds))
    return (1.0 if log_odds >= 0 else part) / (1 + part)


def log_odds_of(probability: float) -> float:
    """log p / (1 - p), with p kept `LEAST` away from 0 and 1."""
    kept = min(max(probability, LEAST), 1 - LEAST)
    return math.log(kept) - math.log1p(-kept)


def check_judge(judge: object) -> None:
    """Whether this can be asked about pairs.

    Raises:
        ConfigurationError: it cannot.
    """
    if isinstance(judge, type) or not (isinstance(judge, PairJudging) or callable(judge)):
        raise ConfigurationError(
            f"{judge!r} cannot judge pairs.",
            hint="give a function of (task, first, second) -> probability, or laurel.policy.PairJudge(policy).",
        )


def _called(judge: PairFunction, task: Task, first: str, second: str) -> float | Failed:
    try:
        probability = float(judge(task, first, second))
    except Exception as error:  # whatever somebody's function does
        return Failed(f"the judge raised {said_by(error)}")
    if not 0 <= probability <= 1:
        return Failed(f"the judge returned {probability}, which is no probability")
    return log_odds_of(probability)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
