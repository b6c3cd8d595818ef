"""The recipe that learns without labels: what is heard, whether it is sound, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import laurel
from laurel.recipe import load
from laurel.runs import Run
from laurel.training import train
from recipes import hearsay

RECIPE = Path(__file__).parents[1] / "recipes" / "no_labels.yaml"
UNTAUGHT = "policy={name: tiny, alphabet: 'abcdefghnosy0123456789>', context_length: 12}"


def test_what_is_heard() -> None:
    """Of four tellings three are usual: to two kinds of eight these are right, so 2 * 3/4 + 6 * 1/4 of 8 is right."""
    said = hearsay.told(2).tasks
    right = {task.id: task.reference for task in hearsay.questions(hearsay.TRAINED)}
    assert len(said) == 8 * 6 * 4
    shares = Counter(task.id[0] for task in said if task.reference == right[task.id.split(".")[0]])
    assert [shares[kind] for kind in hearsay.KINDS] == [18, 18, 6, 6, 6, 6, 6, 6]
    assert {task.reference for task in hearsay.questions(4, first=6)} == set(hearsay.ANSWERS)


def test_the_recipe_is_sound_and_explained() -> None:
    checked = laurel.check(RECIPE, [UNTAUGHT])
    assert (
        checked.passed and "the reward reads no label" in str(checked) and "32 of 32 score full marks" in str(checked)
    )
    told = " ".join(str(laurel.explain(RECIPE, [UNTAUGHT])).split())
    assert "MajorityVote(answer=text" in told and "CollapseAlarm(action=warn" in told


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("right", "low", "high", "alarms"), [(6, 0.68, 0.8, 0), (2, 0.2, 0.32, 1)])
def test_the_vote_makes_certain_what_was_usual(
    right: int, low: float, high: float, alarms: int, tmp_path: Path
) -> None:
    arguments = load(RECIPE, [f"policy.right={right}", f"run={tmp_path / 'run'}"], train)
    laurel.train(**arguments)
    with Run.open(tmp_path / "run") as run:
        assert low < run.evaluations()[-1].metric.mean < high
        assert len(run.events("alarm")) == alarms
