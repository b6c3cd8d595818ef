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


@dataclass(frozen=True)
class Shaped:
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

    @property
    def runs_in_process(self) -> bool:
        """Whether the environment is marked so; then the potential must be quick, too."""
        return runs_in_process(self.environment)

    def __getattr__(self, name: str) -> object:
        """The tasks of the environment, where it has some: a recipe reads them as its own."""
        if name == "tasks":
            return self.environment.tasks  # type: ignore[attr-defined]
        raise AttributeError(name)

    def start(self, task: Task, rollout_id: str) -> ShapedEpisode:
        """An episode of the environment."""
        return ShapedEpisode(self, task, self.environment.start(task, rollout_id))


class ShapedEpisode:
    """Remembers the dialogue, and adds to what each turn of the episode earns."""

    def __init__(self, shaped: Shaped, task: Task, episode: Episode) -> None:
        self._shaped, self._task, self._episode = shaped, task, episode
        self._dialogue: tuple[str, ...] = ()
        self._before = self._potential()

    @property
    def prompt(self) -> Prompt:
        """What the policy reads first."""
        return self._episode.prompt

    def respond(self, text: str) -> Turn:
        """The episode's own answer, with its reward shaped."""
        turn = self._episode.respond(text)
        said = (text,) if turn.observation is None else (text, turn.observation)
        self._dialogue = (*self._dialogue, *said)
        before, self._before = self._before, 0.0 if turn.ending is Ending.TERMINATED else self._potential()
        return replace(turn, reward=turn.reward + self._shaped.discount * self._before - before)

    def _potential(self) -> float:
        value = self._shaped.potential(self._task, self._dialogue)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise EnvironmentFault(
                f"The potential of task {self._task.id} after {len(self._dialogue)} texts is {value!r}.",
                hint="return a finite number for every state.",
            )
        return float(value)
