"""Several reward models as one reward: what they agree on, less how far they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from laurel.errors import ConfigurationError
from laurel.policy.learned_reward import LearnedReward
from laurel.tasks.task import Task
from laurel.tree import Failed, FloatArray, Rollout, Score


def disagreement(rewards: FloatArray) -> FloatArray:
    """The standard deviation over members, [R], of their rewards [M, R]; divided by M.

    Example: members that say 1 and 3 differ by 1.
    """
    spread: FloatArray = rewards.std(axis=0)
    return spread


def pessimistic(rewards: FloatArray, *, weight: float) -> FloatArray:
    """mean over members - weight * disagreement, [R], of their rewards [M, R].

    Weight 0 is the mean; of two members weight 1 is the lower one.

    Example: members that say 1 and 3, weight 0.5: 2 - 0.5 * 1 = 1.5.
    Source: Coste et al., arXiv 2310.02743, uncertainty-weighted optimisation. They subtract the variance; the standard
    deviation has the unit of the reward, so that the weight means the same at any scale of it.
    """
    value: FloatArray = rewards.mean(axis=0) - weight * disagreement(rewards)
    return value


@dataclass(frozen=True)
class RewardEnsemble:
    """reward(task, rollout) = `pessimistic` of what the members say, less their offsets.

    Its score has the parts `ensemble_mean` and `ensemble_disagreement`, which a run records as metrics. A rollout that
    one member cannot read is `Failed`.

    Models that were fitted to comparisons fix no constant, so that members with other constants seem to differ where
    they agree: `offsets` takes it off. `mean_rewards` over held-out answers are a choice; a constant that differs from
    prompt to prompt stays in the disagreement. Fits from one snapshot to the same data in the same order are equal:
    members need other data or another trunk.

    Attributes:
        members: at least two.
        pessimism: weight of the disagreement, not negative.
        offsets: one per member.

    Raises:
        ConfigurationError: fewer members, another number of offsets, or a negative weight.
    """

    members: tuple[LearnedReward, ...]
    pessimism: float
    offsets: tuple[float, ...]

    runs_in_process = True

    def __post_init__(self) -> None:
        if len(self.members) < 2 or len(self.members) != len(self.offsets) or not self.pessimism >= 0:
            raise ConfigurationError(
                f"An ensemble of {len(self.members)} members, {len(self.offsets)} offsets and pessimism "
                f"{self.pessimism} is none.",
                hint="give two members or more, one offset for each, and a weight of at least 0.",
            )

    def __call__(self, task: Task, rollout: Rollout) -> Score | Failed:
        return self.score_rollouts([(task, rollout)])[0]

    def score_rollouts(self, asked: Sequence[tuple[Task, Rollout]]) -> list[Score | Failed]:
        """One result per rollout, in their order."""
        said = [member.score_rollouts(asked) for member in self.members]
        return [self._joined(results) for results in zip(*said, strict=True)]

    def _joined(self, results: Sequence[Score | Failed]) -> Score | Failed:
        values = []
        for number, (result, offset) in enumerate(zip(results, self.offsets, strict=True)):
            if isinstance(result, Failed):
                return Failed(f"member {number} of the ensemble: {result.reason}")
            values.append(result.value - offset)
        rewards = np.array(values)[:, None]
        parts = {"ensemble_mean": float(rewards.mean()), "ensemble_disagreement": float(disagreement(rewards)[0])}
        return Score(float(pessimistic(rewards, weight=self.pessimism)[0]), parts)


def mean_rewards(members: Sequence[LearnedReward], asked: Sequence[tuple[Task, Rollout]]) -> tuple[float, ...]:
    """The mean reward that each member gives to these rollouts; those that it cannot read are passed over.

    Raises:
        ConfigurationError: a member can read none of them.
    """
    means = []
    for number, member in enumerate(members):
        values = [result.value for result in member.score_rollouts(asked) if isinstance(result, Score)]
        if not values:
            raise ConfigurationError(f"Member {number} can read none of the rollouts.", hint="give it others.")
        means.append(float(np.mean(values)))
    return tuple(means)
