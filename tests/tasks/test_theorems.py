"""Generated statements: each is proved by its reference in no more steps than its difficulty, and by none in fewer."""

from __future__ import annotations

import itertools

import pytest

from laurel.errors import FormalError, TaskError
from laurel.formal import grammar
from laurel.recipe import component
from laurel.rewards import metamath_proof
from laurel.tasks import SOURCES, leaks
from laurel.tasks.theorems import theorems

TASKS = theorems(count=300, steps=2)


def test_every_reference_is_a_proof_of_its_difficulty():
    reward = metamath_proof()
    for task in TASKS:
        assert reward(task, task.reference or "") == 1
        assert task.reference.count("D") == task.data["difficulty"]


def test_no_shorter_proof_exists():
    """All strings of fewer detachments are tried on statements of each difficulty."""
    reward = metamath_proof()
    for level in (1, 2):
        shorter = ["".join(each) for length in (1, 3)[:level] for each in itertools.product("12D", repeat=length)]
        for task in [task for task in TASKS if task.data["difficulty"] == level][:25]:
            assert not any(reward(task, proof) for proof in shorter)


def test_difficulties_come_in_turn_as_long_as_there_are_any():
    assert [task.data["difficulty"] for task in TASKS[:6]] == [0, 1, 2, 0, 1, 2]
    assert {task.data["difficulty"] for task in theorems(count=50, steps=3, difficulties=(1, 3))} == {1, 3}


def test_what_differs_in_names_only_is_one_task_so_no_split_parts_it():
    training, held_out = TASKS.split(60)
    assert not leaks(training, held_out)
    database = grammar("implication").database
    first: dict[tuple[str, ...], str] = {}
    for task in TASKS:
        words = task.data["statement"].split()
        names = [word for word in dict.fromkeys(words) if word in database.variables]
        assert names == ["p", "q", "r"][: len(names)] and len(words) <= 16
        renamed = tuple(str(names.index(word)) if word in names else word for word in words)
        assert first.setdefault(renamed, task.id) == task.id
    assert task.prompt == task.data["statement"].removeprefix("|-").replace(" ", "") + ":"


def test_the_same_seed_draws_the_same_tasks():
    assert theorems(count=40, seed=3).fingerprint == theorems(count=40, seed=3).fingerprint
    assert theorems(count=40, seed=3).fingerprint != theorems(count=40, seed=4).fingerprint


def test_theorems_of_the_database_are_not_proved_by_themselves():
    tasks = theorems(database="propositional", count=120, steps=1, longest=9)
    reward = metamath_proof(database="propositional")
    assert all(reward(task, task.reference) for task in tasks)
    assert not [task for task in tasks if task.data["formula"] in ("Cpp", "CNpCpq") and task.data["difficulty"] == 0]
    assert any("N" in task.data["formula"] for task in tasks)


def test_a_database_with_longer_names_is_written_with_spaces(tmp_path):
    (tmp_path / "long.mm").write_text(
        "$c ( -> ) wff |- $. $v ph ps $. wph $f wff ph $. wps $f wff ps $. wi $a wff ( ph -> ps ) $.\n"
        "ax-1 $a |- ( ph -> ( ps -> ph ) ) $. ${ m $e |- ph $. n $e |- ( ph -> ps ) $. mp $a |- ps $. $}"
    )
    tasks = theorems(database=str(tmp_path / "long.mm"), count=4, steps=1, variables=2, prompt="{statement} by ")
    reward = metamath_proof(database=str(tmp_path / "long.mm"))
    assert all(reward(task, task.reference) == 1 for task in tasks)
    assert tasks[0].prompt.startswith("|- ( ") and {"ax-1", "ax-1 ax-1 mp"} == {task.reference for task in tasks}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 10**4, "steps": 0}, r"there are \d+ such statements, not 10000"),
        ({"difficulties": [4]}, r"difficulties \[4\] of 3 steps"),
        ({"difficulties": []}, "difficulties"),
        ({"steps": -1}, "steps"),
        ({"variables": 0}, "variables=0"),
        ({"variables": 50}, "variables=50"),
        ({"count": 0}, "count=0"),
        ({"prompt": "{question}"}, "question"),
    ],
)
def test_what_cannot_be_drawn_is_refused(settings, message):
    with pytest.raises(TaskError, match=message):
        theorems(**{"count": 10, **settings})


def test_it_is_named_in_recipes():
    made = component("tasks", SOURCES, {"name": "theorems", "count": 5})
    assert made.fingerprint == theorems(count=5).fingerprint
    with pytest.raises(FormalError, match="no database"):
        component("tasks", SOURCES, {"name": "theorems", "database": "peano"})
