"""Rewards that learn while the policy does: from a teacher's labels, or against demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from laurel.errors import ConfigurationError
from laurel.metrics import Metric
from laurel.rewards.reward import Reward
from laurel.tasks.task import Task
from laurel.tree import Tree

if TYPE_CHECKING:
    import torch

    from laurel.policy.policy import Policy


@runtime_checkable
class LearningReward(Protocol):
    """A reward that learns from every batch of rollouts before it grades that batch.

    What it learns belongs to the run: it is written into every checkpoint, and a run that was killed and goes on
    learns the same again.
    """

    def begin(self, policy: Policy, directory: Path, seed: int) -> None:
        """Before the first step, also of a resumed run.

        Args:
            policy: as it is before any step of this run.
            directory: of the run.
            seed: of the run.
        """
        ...

    def learn(self, step: int, trees: Sequence[Tree], tasks: Mapping[str, Task]) -> dict[str, Metric]:
        """Learn from rollouts that were just drawn, which nobody has graded; returns what to record of it.

        Args:
            step: the step that they are drawn for. A method that draws more than one batch in a step calls again.
            trees: all of a batch.
            tasks: by id, those of the trees.
        """
        ...

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(tensors, JSON-able): everything that later steps depend on."""
        ...

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        ...


def learning(reward: Reward | None) -> LearningReward | None:
    """The reward, where it learns.

    Raises:
        ConfigurationError: only a part of it would learn, and nothing would teach that part.
    """
    if any(isinstance(part, LearningReward) for part in getattr(reward, "rewards", ())):
        raise ConfigurationError(
            "A part of the weighted reward learns, and only a reward as a whole is taught.",
            hint="give it as the reward itself.",
        )
    return reward if isinstance(reward, LearningReward) else None
