"""From demonstrations alone: each method finds the expert's answers, and its reward teaches another policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import laurel
from laurel.algorithms import Algorithm
from laurel.inspecting import answer_rewards
from laurel.learner import RecoverySettings
from laurel.policy import Policy
from laurel.tasks import Task, TaskSet

EXPERT = {"0": "b", "1": "c", "2": "a"}
UNTRAINED, FORMAT, LEARNED, TAUGHT = 0.15, 0.4, 0.9, 0.6
REUSED = 2.0
"""The KL of who is taught by a recovered reward: that is one of maximum entropy, a unit of it is a nat. Without any, a
policy this small settles on one answer to every prompt before it has looked at the prompt."""
METHODS: dict[str, tuple[Algorithm, RecoverySettings | None, int]] = {
    "airl": (laurel.airl(), RecoverySettings(updates=4), 120),
    "gail": (laurel.gail(entropy=0.01), RecoverySettings(updates=4, replay=2), 160),
    "max_ent_irl": (laurel.max_ent_irl(temperature=0.1, regulariser=0.3), RecoverySettings(updates=4), 160),
    "iq_learn": (laurel.iq_learn(), None, 60),
}
"""The method, how its reward is fitted, and its steps."""
RATES = {"airl": (3e-3, 5e-3), "gail": (3e-3, 3e-3), "max_ent_irl": (3e-3, 3e-3), "iq_learn": (1e-2, 0.0)}
"""The learning rates of the policy and of the reward. That of an AIRL reward falls to 0: once the policy imitates,
nothing tells what the reward says of answers that nobody gives any more, and at a constant rate it drifts."""


def rate(value: float, schedule: str = "constant") -> laurel.OptimiserSettings:
    return laurel.OptimiserSettings(learning_rate=value, betas=(0.9, 0.99), schedule=schedule)


def tiny(seed: int) -> Policy:
    return laurel.policy.tiny(alphabet="012abc", hidden_size=32, layers=1, heads=2, context_length=4, seed=seed)


def accuracy(policy: Policy) -> float:
    """The probability of the expert's answer, estimated from many samples of each prompt."""
    tasks = TaskSet("asked", tuple(Task(key, key, value) for key, value in EXPERT.items()))
    sampler = laurel.rollout.LocalSampler(policy, laurel.Sampling(), laurel.Limits(max_new_tokens=2), seed=0)
    with laurel.rewards.Grader(laurel.rewards.exact_match()) as grader:
        return laurel.evaluate(sampler, grader, tasks, samples=64).mean


def imitate(name: str, policy: Policy, seed: int, directory: Path) -> None:
    algorithm, settings, steps = METHODS[name]
    moves, fits = RATES[name]
    drawn: dict[str, Any] = {}
    if settings is not None:
        drawn = {
            "samples_per_prompt": 16,
            "limits": laurel.Limits(max_new_tokens=2),
            "recovery": replace(settings, optimiser=rate(fits, "linear" if name == "airl" else "constant")),
        }
    laurel.train(
        policy=policy,
        tasks=TaskSet("shown", tuple(Task(key, key, value) for key, value in EXPERT.items())),
        algorithm=algorithm,
        steps=steps,
        prompts_per_step=6,
        optimiser=rate(moves),
        checkpoint_every=steps,
        seed=seed,
        run=directory,
        **drawn,
    )


def knows_the_format(seed: int, directory: Path) -> Policy:
    """A policy that answers with any one letter, whatever it is asked."""
    policy = tiny(seed)
    rows = [Task(f"{key}{letter}", key, letter) for key in EXPERT for letter in "abc"]
    laurel.train(
        policy=policy, tasks=TaskSet("any", tuple(rows)), algorithm=laurel.clone(), steps=40, prompts_per_step=9,
        optimiser=rate(1e-2), checkpoint_every=40, run=directory,
    )  # fmt: skip
    return policy


def recovers(name: str, seed: int, directory: Path) -> Policy:
    """The policy that imitated; its reward likes the expert's answer to every prompt best."""
    policy = tiny(seed)
    assert accuracy(policy) < UNTRAINED
    imitate(name, policy, seed, directory / "imitated")
    assert accuracy(policy) > LEARNED
    for key, value in EXPERT.items():
        said = {answer.text: answer.reward for answer in answer_rewards(directory / "imitated", key, ["a", "b", "c"])}
        assert max(said, key=said.__getitem__) == value, said
    return policy


def teaches(name: str, policy: Policy, seed: int, directory: Path) -> None:
    """Another policy, which knows the format alone, learns the expert's answers from the recovered reward."""
    other = knows_the_format(seed + 100, directory / "format")
    assert accuracy(other) < FORMAT
    reward: Any = str(directory / "imitated")
    if name == "iq_learn":
        policy.export(directory / "policy")
        reward = laurel.policy.SoftQReward(directory / "policy")
    laurel.train(
        policy=other,
        tasks=TaskSet("bare", tuple(Task(key, key) for key in EXPERT)),
        reward=reward,
        algorithm=laurel.rloo(kl=REUSED),
        steps=120,
        prompts_per_step=6,
        samples_per_prompt=16,
        limits=laurel.Limits(max_new_tokens=2),
        optimiser=rate(5e-3),
        checkpoint_every=120,
        seed=seed,
        run=directory / "reused",
    )
    assert accuracy(other) > TAUGHT


@pytest.mark.parametrize("name", ["airl", "iq_learn"])
def test_the_experts_answers_and_its_reward_are_recovered(name: str, tmp_path: Path) -> None:
    recovers(name, 1, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", METHODS)
def test_they_are_recovered_from_any_start_and_teach_another(name: str, seed: int, tmp_path: Path) -> None:
    policy = recovers(name, seed, tmp_path)
    teaches(name, policy, seed, tmp_path)
