"""A proof of the statement earns 1, and nothing else does."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from laurel.errors import ConfigurationError, FormalError
from laurel.recipe import component, rewards
from laurel.rewards import check_reward, in_process, metamath_proof, weighted
from laurel.tasks import Task
from laurel.tree import Failed

REWARD = metamath_proof()
IDENTITY = Task("identity", "Cpp:", "21D1D", {"statement": "|- C p p"})
CLASSICAL = metamath_proof(database="propositional")


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("21D1D", 1),
        ("2 1 D 1 D", 1),
        (" 21D\n1D ", 1),
        ("21D2D", 0),  # proves C x x of an x that is no variable
        ("21D1D1", 0),
        ("", 0),
        ("1", 0),
        ("D", 0),
        ("goal", 0),
        ("ax $a |- C p p $.", 0),
        ("?", 0),
        ("２１D１D", 0),
        ("2 1 D 1 D " * 300, 0),
    ],
)
def test_a_proof_earns_one(answer: str, score: int):
    assert REWARD(IDENTITY, answer) == score


def test_another_proof_is_as_good_and_a_theorem_cannot_prove_itself():
    assert REWARD(IDENTITY, "21D11DD") == 1  # not the shortest one
    assert CLASSICAL(Task("a", "", None, {"statement": "|- C N p N p"}), "I") == 1
    assert CLASSICAL(IDENTITY, "I") == 0 and CLASSICAL(IDENTITY, "21D1D") == 1
    theorem = Task("b", "", None, {"theorem": "S"})
    assert CLASSICAL(theorem, "S") == 0
    # Hypotheses of the theorem may be cited; their labels are longer than one character, so they stand apart.
    assert metamath_proof(database="propositional", steps="all")(theorem, "( wi 2 1 D ) ABFACF") == 0


def test_whole_proofs():
    reward = metamath_proof(steps="all")
    task = Task("a", "", None, {"statement": "|- C p C q p"})
    assert reward(task, "wp wq 1") == 1 and reward(task, "( 1 ) ABC") == 1
    assert reward(task, "1") == 0 and reward(task, "wq wp 1") == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, "neither a 'statement' nor a 'theorem'"),
        ({"statement": 3}, "neither"),
        ({"statement": "|- C p"}, "cannot be read"),
        ({"statement": "|- A p"}, "no symbol 'A'"),
        ({"theorem": "fermat"}, "no theorem 'fermat'"),
    ],
)
def test_a_task_without_a_statement_is_a_failure_and_not_a_zero(data: dict[str, object], reason: str):
    result = REWARD(Task("row 7", "", None, data), "1")
    assert isinstance(result, Failed)
    assert reason in result.reason and "row 7" in result.reason


def test_what_a_hostile_answer_costs_is_bounded():
    task = Task("a", "", None, {"statement": "|- C p p"})
    started = time.monotonic()
    for answer in ("2" * 500 + "D" * 499, "1" * 500 + "D" * 499, "21D" * 300, "2" + "2D" * 499, "1" * 10**6):
        assert REWARD(task, answer) == 0
    assert metamath_proof(steps="all")(task, "( wi ) A" + "ZBB" * 10**4) == 0
    assert time.monotonic() - started < 10


def test_it_is_named_in_recipes():
    made = component("reward", rewards(), {"name": "metamath_proof", "database": "propositional"})
    assert made == CLASSICAL
    with pytest.raises(FormalError, match="'peano' is no database"):
        component("reward", rewards(), {"name": "metamath_proof", "database": "peano"})
    with pytest.raises(ConfigurationError, match="steps"):
        component("reward", rewards(), {"name": "metamath_proof", "steps": "some"})


def test_other_proofs_are_no_surprise_before_a_run():
    """Another last digit proves C x x still, where x is itself an implication of that form."""
    case = Task("case", "x:", "21D1D", {"statement": "|- C C p C q r C p C q r"})
    assert REWARD(case, "21D2D") == 1 and REWARD(IDENTITY, "21D2D") == 0
    assert check_reward([case, IDENTITY], REWARD).passed
    assert check_reward([case, IDENTITY], weighted({"proof": (REWARD, 1.0)})).passed
    assert not check_reward([replace(case, reference="1"), IDENTITY], REWARD).passed

    def one_answer(task: Task, text: str) -> object:
        return REWARD(task, text)

    assert "'21D2D' scored 1" in str(check_reward([case], in_process(one_answer)))
