"""A formaliser is paid for what was meant, not for what is true."""

from __future__ import annotations

import time

import pytest

from laurel.errors import FormalError
from laurel.formal import grammar, read_english
from laurel.recipe import component, rewards
from laurel.rewards import check_reward, formal_statement
from laurel.tasks import SOURCES, Task, formalisations, leaks
from laurel.tree import Failed, Score

REWARD = formal_statement()
TASKS = formalisations(count=120)
ASKED = Task("a", "if p then (p whenever q):", "CpCqp", {"statement": "|- C p C q p"})


@pytest.mark.parametrize(
    ("answer", "reads", "equivalent", "same"),
    [
        ("CpCqp", 1, 1, 1),
        ("|- C p C q p", 1, 1, 1),
        ("CqCpq", 1, 1, 1),
        ("Cpp", 1, 1, 0),  # true as well, and not what was said
        ("CpCqq", 1, 1, 0),
        ("Cpq", 1, 0, 0),
        ("CpCq", 0, 0, 0),
        ("", 0, 0, 0),
        ("if p then (p whenever q)", 0, 0, 0),
    ],
)
def test_parts(answer: str, reads: int, equivalent: int, same: int):
    assert REWARD(ASKED, answer) == Score(same, {"reads": reads, "equivalent": equivalent, "same": same})


def test_an_answer_with_too_many_variables_is_not_equivalent():
    answer = "C" * 11 + "pqrstuvwxyzp"
    assert REWARD(ASKED, answer) == Score(0, {"reads": 1, "equivalent": 0, "same": 0})


def test_an_answer_of_any_length_is_read_in_little_time():
    started = time.process_time()
    for answer in ("N" * 100_000 + "p", "N" * 3999 + "p", "C" * 100_000):
        assert REWARD(ASKED, answer).value == 0
    assert REWARD(ASKED, "N" * 3999 + "p").parts["reads"] == 1 > REWARD(ASKED, "N" * 4000 + "p").parts["reads"]
    assert time.process_time() - started < 5  # unbounded, the first takes minutes


def test_a_task_without_a_statement_fails():
    assert isinstance(REWARD(Task("row 9", "x", None, {}), "Cpp"), Failed)


def test_generated_wordings_mean_their_references():
    system = grammar("propositional")
    for task in TASKS:
        assert system.text(read_english(system, task.data["informal"])) == task.reference
        assert task.prompt == f"{task.data['informal']}:"
    assert check_reward(TASKS, REWARD).passed
    assert len({task.data["statement"] for task in TASKS}) == len(TASKS)
    assert not leaks(*TASKS.split(20))
    words = " ".join(task.prompt for task in TASKS)
    assert all(way in words for way in ("if", "implies", "whenever", "not"))


def test_it_is_named_in_recipes():
    assert component("reward", rewards(), "formal_statement") == REWARD
    assert component("tasks", SOURCES, {"name": "formalisations", "count": 120}).fingerprint == TASKS.fingerprint
    with pytest.raises(FormalError):
        formal_statement(database="peano")
