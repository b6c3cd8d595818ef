"""Shaping by a potential: progress is paid for on the way, and the best policy stays the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from laurel.environments.environment import Environment, Episode, Turn, runs_in_process
from laurel.errors import ConfigurationError, EnvironmentFault
from laurel.tasks.task import Prompt, Task
from laurel.tree import Ending

Potential = Callable[[Task, tuple[str, ...]], float]
"""(task, dialogue) to how promising a state is; the dialogue is what the policy said and what was answered, in turn."""


class Wrapped:
    """What surrounds another environment, and pays more than it."""

    environment: Environment

    @property
    def runs_in_process(self) -> bool:
        """Whether the environment is marked so; then functions that are asked beside it must be quick, too."""
        return runs_in_process(self.environment)

    def __getattr__(self, name: str) -> object:
        """Tasks and turns of the environment, where it has some: a recipe reads them as its own."""
        if name in ("tasks", "turns"):
            return getattr(self.environment, name)
        raise AttributeError(name)


class PaidEpisode:
    """An episode that remembers its dialogue, and adds to what each turn of another one earns."""

    def __init__(self, task: Task, episode: Episode) -> None:
        self.task = task
        self.dialogue: tuple[str, ...] = ()
        self._episode = episode

    @property
    def prompt(self) -> Prompt:
        """What the policy reads first."""
        return self._episode.prompt

    def respond(self, text: str) -> Turn:
        """The episode's own answer, with its reward raised."""
        turn = self._episode.respond(text)
        said = (text,) if turn.observation is None else (text, turn.observation)
        self.dialogue = (*self.dialogue, *said)
        return replace(turn, reward=turn.reward + self.more(turn))

    def more(self, turn: Turn) -> float:
        """What this turn earns beside what the episode pays; the dialogue has it already."""
        raise NotImplementedError


@dataclass(frozen=True)
class Shaped(Wrapped):
    """Another environment, in which every turn also earns

        discount * potential(state after it) - potential(state before it),    potential = 0 once the episode is over

    Over a whole episode this comes to -potential(first state), which no turn changes: every policy is worth by the same
    number less, and the best one is that of the plain environment. What changes is when the reward comes. A bonus for
    each sub-goal has no such guarantee: where it can be earned again and again, it may be worth more than the goal.

    What is cut off is not over: by the environment itself or by a limit of the rollout, it keeps the potential that it
    reached. Values that are bootstrapped there account for it; without them being cut off at a high one pays.

    Attributes:
        environment: what plays.
        potential: a function of (task, dialogue); () is the first state.
        discount: gamma per turn, the same as that of the method; 1 for one that has none.

    Source: Ng, Harada and Russell 1999, "Policy invariance under reward transformations", theorem 1.
    """

    environment: Environment
    potential: Potential
    discount: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.discount <= 1:
            raise ConfigurationError(f"The discount must lie in [0, 1], got {self.discount!r}.", hint="1 is none.")

    def start(self, task: Task, rollout_id: str) -> ShapedEpisode:
        """An episode of the environment."""
        return ShapedEpisode(self, task, self.environment.start(task, rollout_id))


class ShapedEpisode(PaidEpisode):
    """See `Shaped`."""

    def __init__(self, shaped: Shaped, task: Task, episode: Episode) -> None:
        super().__init__(task, episode)
        self._shaped = shaped
        self._before = self._potential()

    def more(self, turn: Turn) -> float:
        """The difference of potentials that the turn makes."""
        before, self._before = self._before, 0.0 if turn.ending is Ending.TERMINATED else self._potential()
        return self._shaped.discount * self._before - before

    def _potential(self) -> float:
        value = self._shaped.potential(self.task, self.dialogue)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise EnvironmentFault(
                f"The potential of task {self.task.id} after {len(self.dialogue)} texts is {value!r}.",
                hint="return a finite number for every state.",
            )
        return float(value)
