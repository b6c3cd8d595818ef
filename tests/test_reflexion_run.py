"""Attempts in a run: named in a recipe, judged as they were, and learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import laurel
from laurel.environments import ENVIRONMENTS, Reflexion
from laurel.recipe import component
from laurel.restoring import judgement_of_run
from laurel.rewards import exact_match, numeric_answer
from laurel.runs import Run
from laurel.tasks import Task, TaskSet

COINS = TaskSet("coins", tuple(Task(f"{number}", "?>", "yn"[number % 2]) for number in range(8)))
"""One prompt, of which half of the tasks want y and half n: only feedback tells which."""


def learn(directory: Path, attempts: int, **others: Any) -> float:
    """What an episode earns on average after learning to play it."""
    environment = Reflexion(exact_match(), attempts=attempts, reflect=False, wrong="-", again=">")
    policy = laurel.policy.tiny(alphabet="yn?>- ", hidden_size=32, layers=2, heads=2, context_length=16, seed=1)
    run = laurel.train(
        policy=policy, tasks=COINS, environment=environment, steps=60,
        algorithm=laurel.turn_ppo(entropy=0.03, bootstrap=False), prompts_per_step=8,
        samples_per_prompt=16, run=directory, checkpoint_every=60,
        limits=laurel.Limits(max_new_tokens=2, max_turns=environment.turns),
        optimiser=laurel.OptimiserSettings(learning_rate=2e-3, betas=(0.9, 0.99), epsilon=1e-5),
        critic=laurel.CriticSettings(optimiser=laurel.OptimiserSettings(learning_rate=3e-3)), **others,
    )  # fmt: skip
    with Run.open(run.directory) as kept:
        return sum(metric.mean for _, metric in kept.metric("reward")[-5:]) / 5


@pytest.mark.slow
def test_a_second_attempt_is_worth_what_the_feedback_of_the_first_one_tells(tmp_path: Path) -> None:
    """One attempt at a coin earns a half at best; whoever says the other side after "wrong" earns it always."""
    assert learn(tmp_path / "one", 1) < 0.65
    assert learn(tmp_path / "two", 2) > 0.85


def test_a_recipe_names_it_and_a_run_is_judged_by_it_again(tmp_path: Path) -> None:
    made = component("environment", ENVIRONMENTS, {"name": "reflexion", "reward": "exact_match", "attempts": 2})
    assert made == Reflexion(exact_match(), attempts=2)
    settled = {"name": "reflexion", "reward": {"name": "numeric_answer", "tolerance": 0.5}}
    assert component("environment", ENVIRONMENTS, settled) == Reflexion(numeric_answer(tolerance=0.5))
    policy = laurel.policy.tiny(alphabet="yn?>- .!W", hidden_size=16, layers=1, heads=2, context_length=40)
    environment = Reflexion(exact_match(), attempts=2, wrong="-", ask="W", again="{memory}>", memory=1)
    laurel.train(
        policy=policy, tasks=COINS, environment=environment, algorithm=laurel.rloo(), steps=1, prompts_per_step=2,
        samples_per_prompt=2, limits=laurel.Limits(max_new_tokens=2, max_turns=environment.turns), run=tmp_path / "run",
    )  # fmt: skip
    assert judgement_of_run(tmp_path / "run").environment == environment
    score = laurel.eval(tmp_path / "run", COINS)
    assert 0 <= score.mean <= 1 and all(
        len(rollout.turns) in (2, 4, 6) for tree in score.trees for rollout in tree.rollouts
    )


def test_check_plays_it() -> None:
    said = laurel.check(
        {
            "policy": laurel.policy.tiny(alphabet="".join(sorted(set("yn?>Wrong. What went wrong? Try again.")))),
            "tasks": COINS,
            "environment": Reflexion(exact_match()),
            "algorithm": laurel.rloo(),
            "limits": laurel.Limits(max_turns=5),
        }
    )
    assert said.passed, said
