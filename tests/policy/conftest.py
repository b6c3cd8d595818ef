"""Fixtures: policies of every architecture, loaded from directories that are written here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_models import ARCHITECTURES, random_tree, write_model

from laurel.policy import Policy, load
from laurel.tree import Tree


@pytest.fixture(scope="session")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Architecture name to its directory, written once."""
    root = tmp_path_factory.mktemp("models")

    def directory(name: str) -> Path:
        if not (root / name).exists():
            write_model(root / name, ARCHITECTURES[name]())
        return root / name

    return directory


@pytest.fixture(params=sorted(ARCHITECTURES))
def policy(request: pytest.FixtureRequest, directories: Callable[[str], Path]) -> Policy:
    """A freshly loaded policy of each architecture."""
    return load(directories(request.param), device="cpu")


@pytest.fixture
def qwen(directories: Callable[[str], Path]) -> Policy:
    return load(directories("qwen3-tied"), device="cpu")


@pytest.fixture
def trees() -> list[Tree]:
    return [random_tree(seed) for seed in range(3)]
