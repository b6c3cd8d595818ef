"""Methods by name: every mistake in a recipe is an error that says what to do."""

import inspect

import pytest

import laurel
from laurel.algorithms import METHODS, Algorithm, named, settings
from laurel.errors import ConfigurationError


@pytest.mark.parametrize("name", METHODS)
def test_every_method_tells_its_story(name):
    algorithm = named(name)
    assert isinstance(algorithm, Algorithm)
    assert algorithm.name == name
    assert algorithm.title and algorithm.paper and algorithm.equation and algorithm.deviations
    documented = inspect.getdoc(METHODS[name])
    for setting in settings(name):
        assert setting in documented, f"{name}: the setting {setting} is not documented"
    assert "object at 0x" not in repr(algorithm)  # settings must be readable in a run's record


def test_settings_are_the_signature():
    assert settings("rloo") == {"kl": 0.0, "kl_estimator": "k3", "entropy": 0.0}
    assert all(default is not inspect.Parameter.empty for name in METHODS for default in settings(name).values())


def test_a_typo_names_the_nearest():
    with pytest.raises(ConfigurationError, match="did you mean 'grpo'"):
        named("gprpo")
    with pytest.raises(ConfigurationError, match="did you mean 'clip_high'"):
        named("grpo", {"clip_hgh": 0.3})


def test_a_setting_of_another_method_is_unknown():
    with pytest.raises(ConfigurationError, match="unknown key 'ddof'"):
        named("rloo", {"ddof": 1})


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("grpo", {"clip": "0.2"}),
        ("grpo", {"clip": True}),
        ("grpo", {"epochs": 1.5}),
        ("grpo", {"kl_estimator": 3}),
        ("grpo", {"clip": None}),
        ("dapo", {"dynamic_sampling": 1}),
    ],
)
def test_a_setting_of_the_wrong_type_is_refused(name, chosen):
    with pytest.raises(ConfigurationError, match="must be"):
        named(name, chosen)


def test_whole_numbers_and_nothing_are_fine_where_they_are_meant():
    assert named("grpo", {"clip": 0, "clip_high": None}).objective.low == 0
    assert named("dr_grpo", {"length": 16}).reduction.length == 16


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_one_import_away(name):
    assert getattr(laurel, name) is METHODS[name]
    assert name in laurel.__all__
