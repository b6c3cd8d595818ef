"""Sub-goals on the way: paid for as a potential, which leaves the best policy the best, or as the naive bonus.

environment:
  name: sub_goals
  environment: {name: number_guessing, low: 1, high: 9, turns: 4}
  goals:
    halves: {worth: 0.2, pattern: "^5$", said_by: policy}       # found in what the policy said so far
    listens: {worth: 0.1, reached: "mine:listens"}              # a function of (task, dialogue)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from laurel.environments.environment import Environment, Episode, Turn
from laurel.environments.shaped import PaidEpisode, Shaped, Wrapped
from laurel.errors import ConfigurationError, EnvironmentFault
from laurel.tasks.task import Task

Check = Callable[[Task, tuple[str, ...]], bool]
"""(task, dialogue) to whether a sub-goal stands reached; the dialogue is as for a potential, see `Shaped`."""

Shaping = Literal["potential", "bonus_once", "bonus_every_turn"]

_SAID_BY: dict[str, slice] = {"policy": slice(0, None, 2), "environment": slice(1, None, 2), "anyone": slice(None)}


@dataclass(frozen=True)
class SubGoal:
    """Something that is to be reached on the way: by a pattern or by a function.

    Attributes:
        worth: in units of reward; 0 only counts how many reach it.
        pattern: a regular expression that is found in some text of the dialogue so far. It has no deadline: one that
            repeats what repeats, such as "(a+)+b", can take for ever on a text of thirty letters.
        said_by: whose texts the pattern is looked for in.
        reached: says it of (task, dialogue), such as "package.module:function" in a recipe. What it says may come and
            go: a key that is held and lost.
    """

    worth: float
    pattern: str | None = None
    said_by: Literal["policy", "environment", "anyone"] = "anyone"
    reached: Check | None = None

    def __post_init__(self) -> None:
        if (self.pattern is None) == (self.reached is None):
            raise ConfigurationError(
                "A sub-goal is told by a pattern or by a function.", hint="give either pattern or reached."
            )
        if self.reached is not None and self.said_by != "anyone":
            raise ConfigurationError("'said_by' would not be read: a function is told.", hint="remove 'said_by'.")
        if isinstance(self.worth, bool) or not math.isfinite(self.worth):
            raise ConfigurationError(f"A worth must be a finite number, got {self.worth!r}.", hint="such as 0.1.")
        if self.said_by not in _SAID_BY:
            raise ConfigurationError(
                f"said_by={self.said_by!r} is nobody.", hint=f"give one of {', '.join(sorted(_SAID_BY))}."
            )
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ConfigurationError(
                f"The pattern {self.pattern!r} is no regular expression: {error}.", hint="mend it, or escape it by \\."
            ) from error

    def stands(self, task: Task, dialogue: tuple[str, ...]) -> bool:
        """Whether it stands reached after these texts.

        Raises:
            EnvironmentFault: the function says neither true nor false.
        """
        if self.reached is None:
            return any(re.search(self.pattern or "", text) for text in dialogue[_SAID_BY[self.said_by]])
        said = self.reached(task, dialogue)
        if not isinstance(said, bool):
            raise EnvironmentFault(
                f"Whether a sub-goal of task {task.id} is reached after {len(dialogue)} texts is {said!r}.",
                hint="return True or False for every state.",
            )
        return said


@dataclass(frozen=True)
class SubGoals(Wrapped):
    """Another environment, with rewards for what is reached on the way.

    Shaping:

    - `potential`: every turn also earns discount * potential(after it) - potential(before it), with the worths of the
      sub-goals that stand reached for potential. Every way to play a whole episode is worth by the same number less,
      and what is best stays the best: see `Shaped`, also for what is cut off.
    - `bonus_once`: each sub-goal pays its worth at the first turn after which it stands reached.
    - `bonus_every_turn`: each pays it at every turn after which it stands reached.

    The last two are the naive forms, as controls: what is best then is what collects most, which need not be the goal.

    Of every rollout `reached` says which sub-goals it came by; where the environment pays alone, these are the parts of
    its score, and the metrics `reward/NAME` the shares of rollouts.

    Attributes:
        environment: what plays.
        goals: by name.
        shaping: how they are paid for.
        discount: gamma per turn of the potential, the same as that of the method; 1 for one that has none.
    """

    environment: Environment
    goals: Mapping[str, SubGoal]
    shaping: Shaping = "potential"
    discount: float = 1.0

    def __post_init__(self) -> None:
        if not self.goals:
            raise ConfigurationError("There is no sub-goal.", hint="name one: goals: {halfway: {worth: 0.1, ...}}.")
        if self.shaping not in ("potential", "bonus_once", "bonus_every_turn"):
            raise ConfigurationError(
                f"shaping={self.shaping!r} is unknown.", hint="give potential, bonus_once or bonus_every_turn."
            )
        if self.shaping != "potential" and self.discount != 1.0:
            raise ConfigurationError("'discount' would not be read: a bonus has none.", hint="remove 'discount'.")
        self._shaped()

    def start(self, task: Task, rollout_id: str) -> Episode:
        """An episode of the environment."""
        if self.shaping == "potential":
            return self._shaped().start(task, rollout_id)
        return _WithBonus(self, task, self.environment.start(task, rollout_id))

    def standing(self, task: Task, dialogue: tuple[str, ...]) -> set[str]:
        """The sub-goals that stand reached after these texts."""
        return {name for name, goal in self.goals.items() if goal.stands(task, dialogue)}

    def reached(self, task: Task, dialogue: tuple[str, ...]) -> dict[str, bool]:
        """Which sub-goals stood reached after some turn of a whole dialogue."""
        turns = [dialogue[:end] for end in range(0, len(dialogue), 2)] + [dialogue]
        ever = set().union(*(self.standing(task, said) for said in turns))
        return {name: name in ever for name in self.goals}

    def worth(self, task: Task, dialogue: tuple[str, ...]) -> float:
        """The potential: the worths of the sub-goals that stand reached, added."""
        return math.fsum(self.goals[name].worth for name in self.standing(task, dialogue))

    def _shaped(self) -> Shaped:
        return Shaped(self.environment, partial(SubGoals.worth, self), self.discount)


class _WithBonus(PaidEpisode):
    """Remembers what was reached, and pays for it."""

    def __init__(self, played: SubGoals, task: Task, episode: Episode) -> None:
        super().__init__(task, episode)
        self._played = played
        self._before = played.standing(task, ())

    def more(self, turn: Turn) -> float:
        """The bonus of the turn."""
        standing = self._played.standing(self.task, self.dialogue)
        paid = standing - self._before if self._played.shaping == "bonus_once" else standing
        self._before |= standing
        return math.fsum(self._played.goals[name].worth for name in paid)
