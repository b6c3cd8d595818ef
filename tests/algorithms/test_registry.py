"""Methods by name: each tells its story, and is one import away."""

import inspect

import pytest

import laurel
from laurel.algorithms import METHODS, Algorithm


@pytest.mark.parametrize("name", METHODS)
def test_every_method_tells_its_story(name):
    algorithm = METHODS[name]()
    assert isinstance(algorithm, Algorithm)
    assert algorithm.name == name
    assert algorithm.title and algorithm.paper and algorithm.equation and algorithm.deviations
    documented = inspect.getdoc(METHODS[name])
    for setting in inspect.signature(METHODS[name]).parameters:
        assert setting in documented, f"{name}: the setting {setting} is not documented"
    assert "object at 0x" not in repr(algorithm)  # settings must be readable in a run's record


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_one_import_away(name):
    assert getattr(laurel, name) is METHODS[name]
    assert name in laurel.__all__
