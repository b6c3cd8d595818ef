"""A policy that is the judge of its own answers (Yuan et al. 2024, Self-Rewarding, arXiv 2401.10020)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from laurel.errors import ConfigurationError, RewardError
from laurel.metrics import Metric
from laurel.policy.judged_reward import (
    Against,
    Asked,
    Settings,
    against_siblings,
    check_judging,
    described,
    judging,
)
from laurel.policy.pair_judge import Comparison
from laurel.policy.policy import Policy, Reference
from laurel.policy.rubric import Rubric
from laurel.tasks.task import Task
from laurel.tree import Failed, Rollout, Score, Tree


class SelfJudged:
    """What the policy itself says of its answers: a frozen copy of it, renewed now and then or never.

        reward: {name: self_judge, rubric: {scale: [0, 5]}, refresh_every: 50}              in a recipe

    The copy is that of the start of the run, and then of the start of every step at which it is renewed. It belongs to
    the run: a checkpoint holds its weights, and a run that was killed goes on byte for byte.

    The paper judges once per iteration, with pairs for `dpo`, and trains the next model from the previous one: that is
    `refresh_every` as many steps as an iteration has, and `online_dpo`. A judge that is never renewed can be learned to
    please, and one that is renewed can drift with what it judges; neither reads a label, so held-out tasks need a
    `held_out_reward` of their own.

    Args:
        rubric, comparison, against, ties: see `JudgedReward`.
        refresh_every: renew the copy at the start of every so many steps, from the first on; None: never.

    Raises:
        ConfigurationError: as `JudgedReward`, or for a refreshing that is no number of steps.
    """

    runs_in_process = True
    reads_labels = False
    fewest_siblings = 2

    def __init__(
        self,
        *,
        rubric: Rubric | None = None,
        comparison: Comparison | None = None,
        against: Against = "siblings",
        ties: bool = False,
        refresh_every: int | None = None,
    ) -> None:
        check_judging(rubric, comparison, against, ties)
        if refresh_every is not None and refresh_every < 1:
            raise ConfigurationError(
                f"refresh_every must be at least 1, got {refresh_every}.", hint="leave it out to renew the judge never."
            )
        self._settings: Settings = (rubric, comparison, against, ties)
        self._every = refresh_every
        self._policy: Policy | None = None
        self._weights: Reference | None = None
        self._judge: Callable[[Asked], list[Score | Failed]] | None = None
        self._renewed = 1

    @property
    def needs_siblings(self) -> bool:
        """See `laurel.rewards.needs_siblings`."""
        return against_siblings(self._settings)

    @property
    def description(self) -> dict[str, Any]:
        """What a run records of it."""
        return {"type": type(self).__name__, **described(self._settings), "refresh_every": self._every}

    def begin(self, policy: Policy, directory: Path, seed: int) -> None:
        """See `laurel.rewards.LearningReward`."""
        self._policy, self._weights, self._renewed = policy, policy.snapshot("judge"), 1
        self._judge = judging(policy, self._settings, weights=self._weights)

    def learn(self, step: int, trees: Sequence[Tree], tasks: Mapping[str, Task]) -> dict[str, Metric]:
        """See `laurel.rewards.LearningReward`; nothing is learned here but who judges from now on."""
        policy, weights = self._live
        if self._every is not None and (step - 1) % self._every == 0 and step != self._renewed:
            weights.load_tensors(policy.tensors())
            self._renewed = step
        return {"judge/steps_old": Metric(float(step - self._renewed), 1.0)}

    def __call__(self, task: Task, rollout: Rollout) -> Score | Failed:
        return self.score_rollouts([(task, rollout)])[0]

    def score_rollouts(self, asked: Asked) -> list[Score | Failed]:
        """One result per rollout, in their order."""
        _ = self._live
        assert self._judge is not None
        return self._judge(asked)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """See `laurel.rewards.LearningReward`."""
        return self._live[1].tensors(), {"renewed": self._renewed}

    def load_state(self, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """See `laurel.rewards.LearningReward`."""
        self._live[1].load_tensors(tensors)
        self._renewed = state["renewed"]

    @property
    def _live(self) -> tuple[Policy, Reference]:
        if self._policy is None or self._weights is None:
            raise RewardError(
                "This reward is the policy of a run that judges itself, and none has begun.",
                hint="give it to laurel.train(reward=...); to judge by a policy that is there, take "
                "laurel.policy.JudgedReward(policy), and in `laurel eval` another --reward.",
            )
        return self._policy, self._weights
