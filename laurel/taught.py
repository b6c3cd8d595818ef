"""What the policy writes for a teacher to correct: drawn, and judged by nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from laurel.algorithms import Algorithm, Sampled
from laurel.environments import Environment
from laurel.errors import ConfigurationError
from laurel.experience import Assign, Experience, demonstration, rollout_metrics
from laurel.judged import scored_nothing
from laurel.metrics import Metric
from laurel.policy import Policy
from laurel.policy.same_tokens import check_same_tokens
from laurel.rollout import Job, LocalSampler
from laurel.runs import phase
from laurel.tasks import Cursor
from laurel.tree import Tree


@dataclass
class TaughtExperience:
    """Draw `samples` rollouts for each of the next `prompts` tasks; each scores 0, whatever it says.

    With `source.given` above 0 some prompts come with the task's reference answer in place of samples, each by a coin
    of its own that hangs on seed, step and place.
    """

    source: Sampled
    sampler: LocalSampler
    environment: Environment | None
    cursor: Cursor
    prompts: int
    samples: int
    credit: Assign

    def __call__(self, step: int, policy_version: int) -> Experience:
        tasks = self.cursor.next(self.prompts)
        coins = np.random.default_rng([self.sampler.seed, step]).random(len(tasks))
        given = {index for index, coin in enumerate(coins) if coin < self.source.given}
        jobs = [
            Job(f"{step}.{index}", task, self.samples, self.environment)
            for index, task in enumerate(tasks)
            if index not in given
        ]
        drawn = iter(self.sampler.collect(jobs, policy_version=policy_version))
        phase("after_sampling", step)
        trees = [
            demonstration(self.sampler.policy, task, f"{step}.{index}") if index in given else _scored(next(drawn))
            for index, task in enumerate(tasks)
        ]
        metrics = {name: value for name, value in rollout_metrics(trees).items() if name != "reward"}
        if self.source.given:
            metrics["given"] = Metric(float(len(given)), float(len(tasks)))
        return Experience(trees, self.credit(trees), [], metrics)


def check_given(arguments: Mapping[str, Any]) -> None:
    """Refuse given answers where an environment would have to answer them.

    Raises:
        ConfigurationError: naming the settings.
    """
    algorithm: Algorithm = arguments["algorithm"]
    source = algorithm.source
    if isinstance(source, Sampled) and source.given and arguments["environment"] is not None:
        raise ConfigurationError(
            f"algorithm: '{algorithm.name}' with given answers learns from references of one turn, and no environment "
            "has answered those.",
            hint="remove the environment, or 'given_share'.",
        )


def _scored(tree: Tree) -> Tree:
    return tree.with_outcomes(scored_nothing(tree))


def check_teacher(policy: Policy, teacher: Policy, *, called: str = "teacher") -> None:
    """Refuse a teacher that does not read the policy's tokens as the policy means them.

    Args:
        called: what messages call it.

    Raises:
        PolicyError: another vocabulary, another number of logits, or a shorter context.
    """
    otherwise = f"learn from answers that the {called} wrote (clone)"
    check_same_tokens(policy, teacher, called=called, otherwise=otherwise)
