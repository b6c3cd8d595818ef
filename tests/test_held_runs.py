"""Whole runs that are held: the KL near its target, a budget kept, by coefficients that began far from right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import laurel
from laurel.algorithms import Algorithm
from laurel.rewards import in_process
from laurel.tasks import Task, TaskSet

LETTERS = "abcd"
ANSWER = 3
STEPS = 80
TARGET = 0.1
"""Nats per token. Unheld, the policy ends at answers of nothing but "a", at more than ten times this."""


@in_process
def share_of_a(task: Task, text: str) -> float:
    return text.count("a") / ANSWER


def metrics(algorithm: Algorithm, directory: Path, *names: str, learning_rate: float) -> list[np.ndarray]:
    """The values of some metrics over a run that wants as many of the letter "a" as it can get."""
    run = laurel.train(
        policy=laurel.policy.tiny(alphabet=LETTERS, hidden_size=32, layers=1, heads=2, context_length=8, seed=1),
        tasks=TaskSet("letters", tuple(Task(letter, letter) for letter in LETTERS)),
        reward=share_of_a,
        algorithm=algorithm,
        steps=STEPS,
        prompts_per_step=4,
        samples_per_prompt=16,
        limits=laurel.Limits(max_new_tokens=ANSWER),
        optimiser=laurel.OptimiserSettings(learning_rate=learning_rate, betas=(0.9, 0.99)),
        checkpoint_every=STEPS,
        seed=1,
        run=directory,
    )
    return [np.array([value.mean for _, value in run.metric(name)]) for name in names]


@pytest.mark.parametrize(
    "kl",
    [
        laurel.KL(0.1, control="adaptive", target=TARGET, rate=0.3),
        laurel.KL(0.1, place="loss", estimator="exact", control="lagrangian", target=TARGET, rate=0.3),
    ],
    ids=["adaptive, in the reward", "lagrangian, in the loss"],
)
def test_the_kl_is_held_near_its_target(kl: laurel.KL, tmp_path: Path) -> None:
    found, coefficient = metrics(
        laurel.rloo(kl=kl), tmp_path / "run", "kl/reference", "kl/coefficient", learning_rate=3e-3
    )
    assert found[0] == 0 and coefficient[0] == 0.1
    assert found[: STEPS // 2].max() > 2 * TARGET  # the first coefficient is too weak to hold it
    assert 0.5 * TARGET < found[STEPS // 2 :].mean() < 1.6 * TARGET
    assert coefficient[STEPS // 2 :].min() > 0.15


def test_a_budget_on_the_length_is_kept_on_average(tmp_path: Path) -> None:
    """Every token may be an "a", so the reward alone wants all three; the bound allows two."""
    budget = laurel.Budget("answer_tokens", at_most=2, rate=0.05)
    lengths, price = metrics(
        laurel.rloo(entropy=0.2, constraint=budget),
        tmp_path / "run",
        "budget/answer_tokens",
        "budget/answer_tokens/coefficient",
        learning_rate=5e-3,
    )
    assert price[0] == 0 and lengths[:10].mean() > 2.4
    assert 1.5 < lengths[STEPS // 2 :].mean() < 2.4
    assert price[STEPS // 2 :].min() > 0.1
