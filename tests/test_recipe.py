"""Recipes: every key is checked against the signature of what reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from laurel import recipe
from laurel.algorithms import METHODS
from laurel.environments import NumberGuessing
from laurel.errors import ConfigurationError, TaskError
from laurel.tasks import TaskSet
from laurel.training import train
from laurel.tree import Sampling


@dataclass(frozen=True)
class Knob:
    size: int = 3
    rate: float = 0.5


def start(*, steps: int, knob: Knob | None = None, run: str | Path = "here", name: str = "x") -> None: ...


def grow(*, leaves: int = 4) -> int:
    return leaves


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_values_become_what_the_signature_says(tmp_path: Path) -> None:
    # YAML 1.1 reads 1e-3 (no dot) as a string; the annotation makes it a number.
    path = written(tmp_path, "steps: 7\nknob: {rate: 1e-3}\n")
    assert recipe.arguments("recipe", start, recipe.read(path)) == {"steps": 7, "knob": Knob(rate=1e-3)}


def test_overrides_reach_inside(tmp_path: Path) -> None:
    path = written(tmp_path, "steps: 7\nknob: {rate: 0.1}\nalgorithm: grpo\n")
    data = recipe.read(path, ["steps=9", "knob.size=4", "algorithm.clip=0.3"])
    assert data == {"steps": 9, "knob": {"rate": 0.1, "size": 4}, "algorithm": {"name": "grpo", "clip": 0.3}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stesp": 3}, "did you mean 'steps'"),
        ({"steps": 3, "knob": {"rat": 1}}, "did you mean 'rate'"),
        ({"knob": {}}, "the key 'steps' is missing"),
        ({"steps": "many"}, "'many' does not fit"),
        ({"steps": 3, "knob": {"size": "big"}}, "recipe: knob: size"),
    ],
)
def test_a_wrong_key_or_value_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        recipe.arguments("recipe", start, settings)


def test_components_by_name_with_settings_and_from_a_module() -> None:
    registry = {"grow": grow}
    assert recipe.component("algorithm", registry, "grow") == 4
    assert recipe.component("algorithm", registry, {"name": "grow", "leaves": 9}) == 9
    assert recipe.component("reward", registry, "math:sqrt")(9) == 3
    with pytest.raises(ConfigurationError, match="did you mean 'grow'"):
        recipe.component("algorithm", registry, {"name": "grwo"})
    with pytest.raises(ConfigurationError, match="did you mean 'leaves'"):
        recipe.component("algorithm", registry, {"name": "grow", "leafs": 9})
    with pytest.raises(ConfigurationError, match="cannot import 'math:nothing'"):
        recipe.component("reward", registry, "math:nothing")


def test_environment_variables_with_and_without_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_DATA", "/data")
    path = written(tmp_path, "name: ${SOME_DATA}/${OTHER_DATA:-there}/x\n")
    assert recipe.read(path)["name"] == "/data/there/x"
    with pytest.raises(ConfigurationError, match="MISSING_DATA is not set"):
        recipe.read(written(tmp_path, "tasks: {path: '${MISSING_DATA}'}\n"))


@pytest.mark.parametrize(
    ("text", "message"), [("- a\n- b\n", "no mapping"), ("a: [1\n", "not YAML"), (None, "Cannot read the recipe")]
)
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "absent.yaml" if text is None else written(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message):
        recipe.read(path)


def test_an_override_without_a_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'steps' is no override"):
        recipe.read(written(tmp_path, "steps: 1\n"), ["steps"])


def sampled(*, sampling: Sampling | None = None) -> None: ...


def test_settings_that_refuse_themselves_name_their_key() -> None:
    for wrong, message in (
        ({"temperature": 0}, r"recipe: sampling: temperature must be above 0"),
        ({"top_p": 1.5}, r"recipe: sampling: top_p must lie in \(0, 1\]"),
        ({"top_k": 0}, r"recipe: sampling: top_k must be at least 1"),
    ):
        with pytest.raises(ConfigurationError, match=message) as caught:
            recipe.arguments("recipe", sampled, {"sampling": wrong})
        assert caught.value.hint
    with pytest.raises(ConfigurationError, match="algorithm 'grpo': A clip range needs"):
        recipe.component("algorithm", METHODS, {"name": "grpo", "clip": -1})


GAME = {"name": "number_guessing", "low": 1, "high": 3, "turns": 2}
MODEL = {"policy": "tiny", "algorithm": "reinforce", "environment": GAME}


def test_an_environment_is_a_source_of_tasks_and_of_held_out_ones() -> None:
    held_out = {"name": "environment", "count": 2, "first": 5}
    data = {**MODEL, "tasks": {"name": "environment", "count": 5}, "held_out": held_out}
    built = recipe.resolve(data, train, leave_out=("policy",))
    assert built["environment"] == NumberGuessing(low=1, high=3, turns=2)
    assert [task.id for task in built["tasks"]] == [f"game-{n}" for n in range(5)]
    assert [task.id for task in built["held_out"]] == ["game-5", "game-6"]
    with pytest.raises(ConfigurationError, match="did you mean 'count'"):
        recipe.resolve({**data, "tasks": {"name": "environment", "cuont": 5}}, train, leave_out=("policy",))
    with pytest.raises(ConfigurationError, match="the key 'count' is missing"):
        recipe.resolve({**data, "tasks": "environment"}, train, leave_out=("policy",))


def test_without_an_environment_that_has_tasks_there_is_no_such_source() -> None:
    data = {**MODEL, "environment": "single_turn", "tasks": {"name": "environment", "count": 5}}
    with pytest.raises(ConfigurationError, match="unknown key 'environment'"):
        recipe.resolve(data, train, leave_out=("policy",))


@pytest.mark.parametrize(("held_out", "expected"), [(3, 3), (0.25, 2)])
def test_a_number_or_a_fraction_of_the_tasks_is_held_out(tmp_path: Path, held_out: float, expected: int) -> None:
    lines = "".join(f'{{"question": "{n}", "answer": "{n}"}}\n' for n in range(8))
    (tmp_path / "rows.jsonl").write_text(lines)
    data = {
        "policy": "tiny", "algorithm": "reinforce", "reward": "exact_match", "held_out": held_out,
        "tasks": {"name": "jsonl", "path": str(tmp_path / "rows.jsonl")},
    }  # fmt: skip
    built = recipe.resolve(data, train, leave_out=("policy",))
    sets: list[TaskSet] = [built["tasks"], built["held_out"]]
    assert [len(one) for one in sets] == [8 - expected, expected]
    assert sorted(task.prompt for one in sets for task in one) == [str(n) for n in range(8)]
    with pytest.raises(TaskError, match="leaves one side empty"):
        recipe.resolve({**data, "held_out": 8}, train, leave_out=("policy",))


FACTORIES = """
from laurel.environments import SingleTurn

ready = SingleTurn()

def broken(size=3):
    return {}["absent"]

class Game(SingleTurn):
    pass

def reward(task, text):
    return 1.0
"""


def test_factories_of_others_are_called_and_their_errors_name_key_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_factories.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    for value in ("some_factories:broken", {"name": "some_factories:broken", "size": 4}):
        with pytest.raises(
            ConfigurationError, match=r"environment.*raised KeyError: 'absent' .*some_factories.py, line 7"
        ):
            recipe.component("environment", {}, value)
    for value in ("some_factories:Game", {"name": "some_factories:Game"}):
        assert type(recipe.component("environment", {}, value)).__name__ == "Game"
    ready = recipe.component("environment", {}, "some_factories:ready")
    assert ready.start is not None and not isinstance(ready, type)
    assert recipe.component("watched_reward", {}, "some_factories:reward")(None, "x") == 1.0
