"""A game of several turns whose best play is known: guess the hidden number, hear 'higher' or 'lower'."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from laurel.environments.conversation import Conversation, Dialogue
from laurel.errors import ConfigurationError
from laurel.tasks.task import Task
from laurel.tasks.task_set import TaskSet


@dataclass(frozen=True)
class NumberGuessing(Conversation):
    """The policy guesses a number between `low` and `high` in at most `turns` turns.

        prompt        guess 1-9:
        policy        5
        environment   lower:
        policy        3              hit: reward 1, terminated

    A hit earns 1. Running out of turns earns 0 and is terminated, since the rules say so. A malformed guess (anything
    but the plain digits of a number from `low` to `high`, white space around it aside) loses at once: reward 0,
    terminated. The hidden number is uniform and follows from (seed, task id), so that all samples of a task share it.

    Attributes:
        low, high: the range, both ends included; at least 0.
        turns: how many guesses there are.
        seed: which hidden numbers are drawn.
        higher, lower: what the policy hears when the hidden number is higher or lower than its guess.
    """

    runs_in_process: ClassVar[bool] = True
    low: int = 1
    high: int = 9
    turns: int = 3
    seed: int = 0
    higher: str = "higher:"
    lower: str = "lower:"

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high or self.turns < 1:
            raise ConfigurationError(
                f"NumberGuessing: low={self.low}, high={self.high}, turns={self.turns} is no game.",
                hint="choose 0 <= low <= high and at least one turn.",
            )

    @property
    def prompt(self) -> str:
        """What every episode starts with."""
        return f"guess {self.low}-{self.high}:"

    def tasks(self, count: int, *, first: int = 0) -> TaskSet:
        """`count` games, numbered from `first`, that differ in their hidden number only."""
        games = (Task(id=f"game-{index}", prompt=self.prompt) for index in range(first, first + count))
        return TaskSet("number guessing", tuple(games))

    def hidden(self, task: Task) -> int:
        """The number to guess."""
        return random.Random(f"{self.seed}/{task.id}").randint(self.low, self.high)

    def converse(self, task: Task, rollout_id: str) -> Dialogue:
        """One game."""
        hidden = self.hidden(task)
        text = yield self.prompt
        for turn in range(1, self.turns + 1):
            guess = self._guess(text)
            if guess == hidden:
                return 1.0
            if guess is None or turn == self.turns:
                return 0.0
            text = yield self.higher if hidden > guess else self.lower
        raise AssertionError("unreachable: the last turn returns")

    def _guess(self, text: str) -> int | None:
        digits = text.strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(self.high))):
            return None
        return int(digits) if self.low <= int(digits) <= self.high else None

    def optimal_return(self) -> float:
        """The expected reward of the best policy, over the uniform hidden number."""
        return optimal_hits(self.high - self.low + 1, self.turns)


@cache
def optimal_hits(numbers: int, turns: int) -> float:
    """The probability that best play hits one of `numbers` equally likely numbers in `turns` guesses.

    By dynamic programming over what is still possible, after the guess that has g numbers below it:

        V(n, k) = max over g of  1/n + g/n V(g, k-1) + (n-1-g)/n V(n-1-g, k-1),    V(0, k) = V(n, 0) = 0

    which equals min(n, 2^k - 1) / n: halving, with every guess a node of a binary search tree.
    """
    if numbers == 0 or turns == 0:
        return 0.0
    return max(
        (1 + below * optimal_hits(below, turns - 1) + above * optimal_hits(above, turns - 1)) / numbers
        for below in range(numbers)
        for above in [numbers - 1 - below]
    )
