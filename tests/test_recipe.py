"""Recipes: every key is checked against the signature of what reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from laurel import recipe
from laurel.errors import ConfigurationError


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
