"""Parts that do not fit together are refused before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import laurel
from laurel import preflight
from laurel.environments import NumberGuessing, SingleTurn
from laurel.errors import ConfigurationError, TaskError
from laurel.tasks import Task, TaskSet


@pytest.fixture
def policy() -> laurel.policy.Policy:
    return laurel.policy.tiny(alphabet="0123456789>usa", hidden_size=16, layers=1, heads=2, context_length=16)


def sets(prompts: list[Any], references: list[str | None] | None = None) -> TaskSet:
    gold = references or [None] * len(prompts)
    return TaskSet("set", tuple(Task(f"{n}", p, g) for n, (p, g) in enumerate(zip(prompts, gold, strict=True))))


def test_a_prompt_on_both_sides_is_refused_where_prompts_are_the_tasks() -> None:
    for environment in (None, SingleTurn()):
        with pytest.raises(TaskError):
            preflight.check_splits(sets(["1>", "2>"]), TaskSet("other", (Task("x", "2>"),)), environment)
        preflight.check_splits(sets(["1>", "2>"]), TaskSet("other", (Task("0", "3>"),)), environment)


def test_games_that_share_their_prompt_are_told_apart_by_their_ids() -> None:
    game = NumberGuessing()
    preflight.check_splits(game.tasks(10), game.tasks(5, first=10), game)
    with pytest.raises(TaskError, match=r"2 tasks are in both .*: game-8, game-9"):
        preflight.check_splits(game.tasks(10), game.tasks(5, first=8), game)
    # The same number of a row in two files with different prompts is no leak.
    preflight.check_splits(sets(["1>"]), sets(["2>"]), game)


def test_a_bound_on_a_part_that_the_reward_does_not_have_is_refused(policy: laurel.policy.Policy) -> None:
    reward = laurel.rewards.weighted({"right": (laurel.rewards.exact_match(), 1.0)})
    algorithm = laurel.grpo(constraint=laurel.Budget("polite", at_least=0.5, rate=0.1))
    with pytest.raises(ConfigurationError, match=r"bounds 'polite', which is no part of the reward \(right\)"):
        laurel.train(policy=policy, tasks=sets(["1>"], ["1"]), reward=reward, algorithm=algorithm)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"algorithm": laurel.grpo(minibatches=3)}, "algorithm.minibatches"),
        ({"algorithm": laurel.ppo(), "critic": laurel.CriticSettings(minibatches=3)}, "critic.minibatches"),
    ],
)
def test_a_minibatch_without_a_prompt_is_refused_before_anything_is_drawn(
    policy: laurel.policy.Policy, changes: dict[str, Any], name: str, tmp_path: Path
) -> None:
    small: dict[str, Any] = {"policy": policy, "tasks": sets(["1>", "2>"]), "reward": laurel.rewards.exact_match()}
    with pytest.raises(ConfigurationError, match=rf"3 minibatches of 2 prompts per step(.|\n)*lower {name}"):
        laurel.train(**small, **changes, prompts_per_step=2, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


FALLING = laurel.OptimiserSettings(schedule="linear", warmup_steps=8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser": FALLING}, r"optimiser: The run has 8 optimiser steps, which warmup_steps \(8\) uses up"),
        ({"critic": laurel.CriticSettings(optimiser=FALLING)}, r"critic\.optimiser: The run has 8 optimiser steps"),
        (
            {"critic": laurel.CriticSettings(optimiser=FALLING, epochs=1), "steps": 5},
            r"critic\.optimiser: The run has 5 optimiser steps",
        ),
        (
            {"optimiser": FALLING, "critic": laurel.CriticSettings(prefit_updates=2), "steps": 4},
            "optimiser: The run has 8 optimiser steps",
        ),
        ({"critic": laurel.CriticSettings(prefit_updates=2)}, "critic: it is fitted alone for 2 steps of 2"),
        (
            {"algorithm": laurel.gail(), "recovery": laurel.RecoverySettings(optimiser=FALLING, updates=3)},
            r"recovery\.optimiser: The run has 6 optimiser steps",
        ),
    ],
)
def test_a_warm_up_that_uses_a_falling_schedule_up_is_refused_of_whatever_learns(
    policy: laurel.policy.Policy, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Two steps of four epochs each are eight optimiser steps; one step more leaves one for the fall."""
    arguments: dict[str, Any] = {
        "policy": policy,
        "tasks": sets(["1>", "2>"], ["1", "2"]),
        "algorithm": laurel.ppo(epochs=4),
        "steps": 2,
        "prompts_per_step": 2,
        "limits": laurel.Limits(max_new_tokens=2),
        **changes,
    }
    if "recovery" not in changes:
        arguments["reward"] = laurel.rewards.exact_match()
    with pytest.raises(ConfigurationError, match=message):
        laurel.explain(arguments)
    assert "together" in str(laurel.explain({**arguments, "steps": arguments["steps"] + 4}))
