"""Turns compared with others from the same state learn the game in which only who listens wins always."""

from __future__ import annotations

from pathlib import Path

import pytest

import laurel
from laurel.recipe import load

RECIPE = Path(__file__).parents[1] / "recipes" / "number_guessing.yaml"
WITHOUT_LISTENING = 2 / 3


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1])
def test_gigpo_learns_to_listen(seed: int, tmp_path: Path) -> None:
    algorithm = "algorithm={name: gigpo, entropy: 0.03, state: history}"
    own = [algorithm, f"run={tmp_path / 'run'}", f"policy.seed={seed}", f"seed={seed}"]
    run = laurel.train(**load(RECIPE, own))
    before, after = (evaluation.metric.mean for evaluation in run.evaluations())
    assert before < 0.05 and after > (1 + WITHOUT_LISTENING) / 2
