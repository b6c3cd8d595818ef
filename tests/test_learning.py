"""Every named method learns a task whose answer is known: after a letter, the next one in a circle.

A separator stands between the letter and its answer, and the initial weights are large enough to tell letters apart:
a policy of one layer can hardly tell a letter that it reads from the same letter that it has written, and one that
answers all letters alike at first is pushed to one answer for all. The task is about methods, and neither is theirs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import laurel
from laurel.algorithms import Algorithm
from laurel.policy import Policy
from laurel.tasks import Task, TaskSet

LETTERS = "abcd"
# One right letter of seven tokens, then the end: an untrained policy is right about once in 49 answers.
UNTRAINED = 0.15
LEARNED = 0.9
# Without the bonus, a policy this small sometimes settles on a wrong answer to one letter and never tries another.
ENTROPY = 0.05
METHODS: dict[str, tuple[Algorithm, int]] = {
    "reinforce": (laurel.reinforce(entropy=ENTROPY), 80),
    "rloo": (laurel.rloo(entropy=ENTROPY), 80),
    "grpo": (laurel.grpo(entropy=ENTROPY), 80),
    "dr_grpo": (laurel.dr_grpo(length=2, entropy=ENTROPY), 80),
    "dapo": (laurel.dapo(maximum_draws=2, entropy=ENTROPY), 80),
    # Two epochs, so that what bounds the ratio is more than a name.
    "gspo": (laurel.gspo(clip=0.1, clip_high=0.1, entropy=ENTROPY, epochs=2), 50),
    "cispo": (laurel.cispo(entropy=ENTROPY, epochs=2), 50),
    "reinforce_plus_plus": (laurel.reinforce_plus_plus(entropy=ENTROPY, epochs=2), 50),
    "online_dpo": (laurel.online_dpo(beta=0.5, label_smoothing=0.05), 80),
    "ppo": (laurel.ppo(entropy=ENTROPY), 40),
    "turn_ppo": (laurel.turn_ppo(entropy=2 * ENTROPY), 40),
    "remax": (laurel.remax(entropy=ENTROPY), 80),
    "vine_ppo": (laurel.vine_ppo(every=1, continuations=2, budget=2, entropy=ENTROPY, epochs=4), 35),
    "clone": (laurel.clone(), 120),
}
"""The method and its steps."""


def circle(letters: str = LETTERS) -> TaskSet:
    following = dict(zip(letters, letters[1:] + letters[0], strict=True))
    return TaskSet("circle", tuple(Task(letter, f"{letter}>", following[letter]) for letter in letters))


def learn(name: str, policy: Policy, seed: int, directory: Path) -> None:
    algorithm, steps = METHODS[name]
    settings: dict[str, Any] = {}
    if name != "clone":
        settings = {
            "reward": laurel.rewards.exact_match(),
            "samples_per_prompt": 16,
            "limits": laurel.Limits(max_new_tokens=2),
        }
    if algorithm.needs_critic:
        settings["critic"] = laurel.CriticSettings(optimiser=laurel.OptimiserSettings(learning_rate=5e-3))
    laurel.train(
        policy=policy,
        tasks=circle(),
        algorithm=algorithm,
        steps=steps,
        prompts_per_step=8,
        optimiser=laurel.OptimiserSettings(learning_rate=5e-3, betas=(0.9, 0.99)),
        checkpoint_every=steps,
        seed=seed,
        run=directory,
        **settings,
    )


def accuracy(policy: Policy, seed: int) -> float:
    """The probability of the right answer, estimated from many samples of each prompt."""
    sampler = laurel.rollout.LocalSampler(policy, laurel.Sampling(), laurel.Limits(max_new_tokens=2), seed=seed)
    with laurel.rewards.Grader(laurel.rewards.exact_match()) as grader:
        return laurel.evaluate(sampler, grader, circle(), samples=64).mean


def learns(name: str, seed: int, directory: Path) -> None:
    shape = {"hidden_size": 32, "layers": 1, "heads": 2, "context_length": 4}
    policy = laurel.policy.tiny(alphabet=f"{LETTERS}>", initial_scale=0.15, seed=seed, **shape)
    assert accuracy(policy, seed) < UNTRAINED
    learn(name, policy, seed, directory)
    assert accuracy(policy, seed) > LEARNED


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns(name: str, tmp_path: Path) -> None:
    learns(name, 1, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_from_any_start(name: str, seed: int, tmp_path: Path) -> None:
    learns(name, seed, tmp_path / "run")
