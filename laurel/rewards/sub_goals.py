"""What was reached on the way, told beside what the environment pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from laurel.rewards.reward import Reward
from laurel.rewards.verifiers import FromEnvironment
from laurel.tasks import Task
from laurel.tree import Rollout, Score


@runtime_checkable
class TellsReached(Protocol):
    """An environment that knows sub-goals."""

    def reached(self, task: Task, dialogue: tuple[str, ...]) -> Mapping[str, bool]:
        """Which of them were reached in a dialogue; () has none of it yet, and the first text is the policy's."""
        ...


@dataclass(frozen=True)
class Reached:
    """Adds nothing to what an environment pays, and tells which sub-goals were reached: parts of the score, 1 or 0."""

    environment: TellsReached

    runs_in_process: ClassVar[bool] = True

    def __call__(self, task: Task, rollout: Rollout) -> Score:
        dialogue = tuple(text for _, text in rollout.turns[1:])
        return Score(0.0, {name: float(there) for name, there in self.environment.reached(task, dialogue).items()})


def paid_by(reward: Reward | None, environment: object) -> Reward | None:
    """What grades rollouts: the reward; where an environment with sub-goals pays, it tells which were reached."""
    pays = reward is None or isinstance(reward, FromEnvironment)
    return Reached(environment) if pays and isinstance(environment, TellsReached) else reward
