"""A reward that is recovered from demonstrations, while the policy that imitates them is trained on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from laurel.algorithms import Algorithm
from laurel.configuration import describe
from laurel.errors import ConfigurationError
from laurel.experience import Assign, Experience, SampledExperience, beside, demonstration
from laurel.learner.pass_tokens import PassTokens
from laurel.learner.ratios import log_probs_now
from laurel.learner.recovery import RecoveryLearner, RecoverySettings
from laurel.metrics import Metric
from laurel.objectives import RewardForm
from laurel.policy import Policy, RewardModel, ShapedRewardModel, check_exportable, export_recovered
from laurel.policy.critic import copied
from laurel.policy.saved_reward import MODEL
from laurel.rewards import Grader, GradingSettings
from laurel.rollout import LocalSampler
from laurel.runs import Run
from laurel.tasks import Cursor, Task, TaskSet
from laurel.tree import Failed, Rollout, Sampling, Score, Tree

REWARD_PART = "recovered_reward"
"""The part of a score that is the recovered reward; the score as a whole is what the policy is paid for it."""


class RecoveredReward:
    """reward(task, rollout) = what `form` pays for it, under a reward that was fitted to this very batch before.

    It is a `laurel.rewards.LearningReward`: in every step the demonstrations of the step's tasks stand beside what the
    policy drew for them, the reward learns to tell them apart, and then it pays.

    Args:
        form: what the reward is fitted by, and what it pays.
        settings: how it is fitted.
        tasks: those of the run, each with a reference answer.
        steps: of the run.
        method: named in what is saved.
        tokens_per_microbatch: see `RecoveryLearner`.
    """

    runs_in_process = True

    def __init__(
        self,
        form: RewardForm,
        settings: RecoverySettings,
        tasks: TaskSet,
        *,
        steps: int,
        method: str,
        tokens_per_microbatch: int | None = None,
    ) -> None:
        self.form = form
        self.settings = settings
        self.method = method
        self._tasks = {task.id: task for task in tasks}
        self._steps = steps
        self._tokens_per_microbatch = tokens_per_microbatch
        self._recent: deque[tuple[int, list[Tree]]] = deque(maxlen=settings.replay)

    def begin(self, policy: Policy, directory: Path, seed: int) -> None:
        """Build the reward; `seed` is not needed, for every batch is used whole.

        Raises:
            PolicyError: what it would recover could not be saved as a reward model.
        """
        own = self.settings.kind == "own"
        made = ShapedRewardModel if self.form.has_potential else RewardModel
        self.model = made(copied(policy, "recovered reward") if own else policy, learns_trunk=own)
        check_exportable(self.model)
        self._policy, self._directory = policy, directory
        self._learner = RecoveryLearner(
            self.model,
            self.form,
            self.settings,
            total_steps=self._steps,
            tokens_per_microbatch=self._tokens_per_microbatch,
        )

    def learn(self, step: int, trees: Sequence[Tree], tasks: Mapping[str, Task]) -> dict[str, Metric]:
        """Fit the reward to what was drawn and demonstrated in this step, and in as many before it as are replayed."""
        joined = [self._joined(tree) for tree in trees]
        among = [*(tree for _, earlier in self._recent for tree in earlier), *joined]
        said = None
        if self.form.fit_reads_policy:
            size = PassTokens.of(self._tokens_per_microbatch, self._policy.device)
            masks = [tree.flat.policy for tree in among]
            said = log_probs_now(self._policy, among, masks, together=size.together, uncut=size.uncut)
        metrics = self._learner.fit(among, said)
        self._recent.append((step, joined))
        return metrics

    def __call__(self, task: Task, rollout: Rollout) -> Score | Failed:
        return self.score_rollouts([(task, rollout)])[0]

    def score_rollouts(self, asked: Sequence[tuple[Task, Rollout]]) -> list[Score | Failed]:
        """One result per rollout, in their order."""
        trees = list({id(rollout.tree): rollout.tree for _, rollout in asked}.values())
        read = {id(tree): said for tree, said in zip(trees, self._learner.read(trees), strict=True)}
        results: list[Score | Failed] = []
        for _, rollout in asked:
            said, place = read[id(rollout.tree)], rollout.tree.leaves.index(rollout.leaf)
            results.append(Score(float(said.pays[place]), {REWARD_PART: float(said.rewards[place])}))
        return results

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(tensors, JSON-able). What was drawn stands in the record of the run, so its steps are enough."""
        tensors, counters = self._learner.state()
        return tensors, {"learner": counters, "replayed": [step for step, _ in self._recent]}

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        self._learner.load_state(tensors, state["learner"])
        self._recent.clear()
        with Run.open(self._directory) as run:
            for step in state["replayed"]:
                self._recent.append((step, [self._joined(tree) for tree in run.trees(step)]))

    def save(self) -> Path:
        """Write the reward as it is as a reward model below the directory of the run, and return where.

        Raises:
            PolicyError: see `laurel.policy.export_recovered`.
        """
        about = {"method": self.method, "form": describe(self.form), "steps": self._steps}
        export_recovered(self.model, self._directory / MODEL, about)
        return self._directory / MODEL

    def _joined(self, tree: Tree) -> Tree:
        """What was drawn for a task with its demonstration beside it."""
        return beside(tree, demonstration(self._policy, self._tasks[tree.task_id], f"{tree.id}.demonstration"))


@dataclass
class RecoveredExperience:
    """`SampledExperience` under a reward that is recovered on the way, and that is part of the run's state."""

    sampled: SampledExperience
    reward: RecoveredReward

    def __call__(self, step: int, policy_version: int) -> Experience:
        return self.sampled(step, policy_version)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(tensors, JSON-able)."""
        return self.reward.state()

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Go on as the one that `state` came from."""
        self.reward.load_state(tensors, state)


def recovering(
    arguments: Mapping[str, Any],
    sampler: LocalSampler,
    cursor: Cursor,
    credit: Assign,
    samples: int,
    directory: Path,
) -> RecoveredExperience:
    """The experience of a run that recovers a reward.

    Args:
        arguments: of `laurel.train`.
        samples: per prompt.
        directory: of the run.

    Raises:
        PolicyError: the reward could not be saved as a reward model.
    """
    algorithm, policy = arguments["algorithm"], sampler.policy
    reward = RecoveredReward(
        algorithm.recovers,
        arguments["recovery"] or RecoverySettings(),
        arguments["tasks"],
        steps=arguments["steps"],
        method=algorithm.name,
        tokens_per_microbatch=arguments["tokens_per_microbatch"],
    )
    reward.begin(policy, directory, arguments["seed"])
    grader = Grader(reward, arguments["grading"] or GradingSettings())
    sampled = SampledExperience(
        algorithm, credit, sampler, grader, None, cursor, arguments["prompts_per_step"], samples
    )
    return RecoveredExperience(sampled, reward)


def check_recovery(arguments: Mapping[str, Any]) -> None:
    """Refuse settings under which a reward cannot be recovered, or that nobody would read.

    Args:
        arguments: of `laurel.train`.

    Raises:
        ConfigurationError: naming the setting.
    """
    algorithm, sampling = arguments["algorithm"], arguments["sampling"] or Sampling()
    form, settings = algorithm.recovers, arguments["recovery"] or RecoverySettings()
    if form is None:
        return
    if not isinstance(settings, RecoverySettings):
        raise ConfigurationError(
            f"recovery is a {type(settings).__name__}, not RecoverySettings.",
            hint="write recovery=laurel.RecoverySettings(...).",
        )
    if settings.replay and not form.uses_replay:
        raise ConfigurationError(
            f"recovery: 'replay' would not be read: '{algorithm.name}' asks what the policy writes as it is, and "
            "earlier samples are another policy's.",
            hint="remove 'replay', or take more samples_per_prompt; gail can replay.",
        )
    if form.pay_reads_policy and (sampling.truncates or sampling.temperature != 1):
        raise ConfigurationError(
            f"'{algorithm.name}' pays for what the policy itself finds unlikely, and sampling draws from another "
            "distribution.",
            hint="leave sampling out (temperature 1, nothing cut off), or take gail.",
        )


def recovery_memory(algorithm: Algorithm, recovery: RecoverySettings | None, copy: int, moved: int) -> dict[str, int]:
    """A recovered reward of its own is a copy of the policy with an optimiser; a shared one next to nothing."""
    if algorithm.recovers is None or (recovery or RecoverySettings()).kind == "shared":
        return {}
    return {"recovered reward with gradients, moments and masters": copy + moved}


def recovery_passes(algorithm: Algorithm, recovery: RecoverySettings | None) -> int:
    """Forward passes of a recovered reward: two to measure and to pay, three for every update; more with replay.

    One that shares the policy's trunk reads it without a backward pass; log-probabilities of the policy are one more.
    """
    if algorithm.recovers is None:
        return 0
    settings = recovery or RecoverySettings()
    fitted = (1 + settings.replay) * (1 + (3 if settings.kind == "own" else 1) * settings.updates)
    return 1 + fitted + algorithm.recovers.fit_reads_policy
