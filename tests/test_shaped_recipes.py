"""Shaped environments and sub-goals from a recipe: keys, errors, metrics, evaluation again, resumption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from test_resume_kinds import game, killed_and_resumed

import laurel
from laurel.environments import NumberGuessing, Shaped, SubGoal, SubGoals
from laurel.errors import ConfigurationError
from laurel.recipe import read, resolve
from laurel.tasks import Task

PLAY = {"name": "number_guessing", "low": 1, "high": 3, "turns": 2, "higher": "+", "lower": "-"}
GOALS = {
    "halves": {"worth": 0.3, "pattern": "^2$", "said_by": "policy"},
    "hears": {"worth": 0.1, "reached": "test_shaped_recipes:heard"},
}


def heard(task: Task, dialogue: tuple[str, ...]) -> bool:
    return len(dialogue) > 1


def far(task: Task, dialogue: tuple[str, ...]) -> float:
    return 0.25 * len(dialogue)


def recipe(directory: Path, environment: Any, **changes: Any) -> Path:
    data = {
        "policy": {"name": "tiny", "alphabet": "gues 123:+-", "hidden_size": 16, "layers": 1, "heads": 2, },
        "environment": environment,
        "tasks": {"name": "environment", "count": 40},
        "held_out": {"name": "environment", "count": 6, "first": 40},
        "algorithm": "turn_ppo",
        "steps": 2,
        "prompts_per_step": 4,
        "samples_per_prompt": 4,
        "limits": {"max_new_tokens": 2, "max_turns": 2},
        "run": str(directory / "run"),
        **changes,
    }  # fmt: skip
    path = directory / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_sub_goals_are_read_played_counted_and_judged_again(tmp_path: Path) -> None:
    path = recipe(tmp_path, {"name": "sub_goals", "environment": PLAY, "goals": GOALS})
    arguments = resolve(read(path), laurel.train)
    made = arguments["environment"]
    assert isinstance(made, SubGoals) and made.environment == NumberGuessing(1, 3, 2, higher="+", lower="-")
    assert made.goals["halves"] == SubGoal(0.3, "^2$", "policy") and made.goals["hears"].reached is heard
    assert laurel.check(path).passed and "SubGoals" in str(laurel.explain(path)) and made.turns == 2
    run = laurel.train(**arguments)
    for name in GOALS:
        course = dict(run.metric(f"reward/{name}"))
        assert [metric.count for metric in course.values()] == [16, 16]
        for step in run.steps():
            parts = [r.outcome.score.parts[name] for t in run.trees(step) for r in t.rollouts]  # type: ignore[union-attr]
            assert course[step].sum == sum(parts)
    held = [rollout for tree in run.evaluation_trees("held_out", 2) for rollout in tree.rollouts]
    assert all(rollout.outcome.score.parts.keys() == GOALS.keys() for rollout in held)  # type: ignore[union-attr]
    last = next(one for one in run.evaluations() if one.name == "held_out" and one.step == 2)
    again = laurel.eval(run.directory, made.environment.tasks(6, first=40))
    assert again.mean == pytest.approx(last.metric.mean, abs=1e-12)


def test_a_potential_is_named_by_its_function(tmp_path: Path) -> None:
    path = recipe(
        tmp_path, {"name": "shaped", "environment": PLAY, "potential": "test_shaped_recipes:far", "discount": 0.9}
    )
    made = resolve(read(path), laurel.train)["environment"]
    assert isinstance(made, Shaped) and made.potential is far and made.discount == 0.9
    assert len(made.tasks(3)) == 3  # type: ignore[operator]
    assert not hasattr(Shaped(laurel.environments.SingleTurn(), far), "tasks")
    run = laurel.train(**resolve(read(path), laurel.train))
    task = next(task for task in made.tasks(20) if made.environment.hidden(task) == 2)
    episode = made.start(task, "by hand")
    assert [episode.respond(text).reward for text in ("1", "2")] == pytest.approx([0.9 * 0.5, 1 - 0.5])
    assert laurel.eval(run.directory, made.environment.tasks(6, first=40)).tasks == 6


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"name": "sub_goals", "environment": PLAY}, "'goals' is missing"),
        ({"name": "sub_goals", "goals": GOALS}, "'environment' is missing"),
        ({"name": "sub_goals", "environment": {"name": "number_guesing"}, "goals": GOALS}, "number_guessing"),
        ({"name": "sub_goals", "environment": PLAY, "goals": {"a": {"wort": 1}}}, r"goals: a(.|\n)*worth"),
        ({"name": "sub_goals", "environment": PLAY, "goals": {"a": {"worth": 1}}}, "goals: a: A sub-goal is told by"),
        ({"name": "sub_goals", "environment": PLAY, "goals": {"a": 1}}, "goals"),
        ({"name": "sub_goals", "environment": PLAY, "goals": GOALS, "shaping": "bonus"}, "bonus_every_turn"),
        ({"name": "shaped", "environment": PLAY, "potential": "test_shaped_recipes:near"}, "cannot import"),
        ({"name": "shaped", "environment": PLAY, "potential": 3}, "a function, as package.module:function"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_key(environment: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        resolve(read(recipe(tmp_path, environment)), laurel.train)


def test_killed_and_resumed_is_uninterrupted(tmp_path: Path) -> None:
    def changes() -> dict[str, Any]:
        plain = game()
        goals = {"hears": SubGoal(0.1, reached=heard), "one": SubGoal(0.2, pattern="1", said_by="policy")}
        return {**plain, "environment": SubGoals(plain["environment"], goals, "bonus_every_turn")}

    with killed_and_resumed(tmp_path, "after_update:3", changes) as run:
        assert sum(metric.sum for _, metric in run.metric("reward/one")) > 0
