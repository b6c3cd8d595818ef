"""Methods of three kinds solve the two tasks of the study, from one start."""

from __future__ import annotations

import pytest

from studies.learned import learn
from studies.learning_tasks import learning_tasks


def solves(method: str, task: str) -> None:
    result = learn(method, task, 0)
    assert result.returns[0] < 0.55 and result.returns[-1] >= learning_tasks()[task].solved
    assert result.steps[-1] == learning_tasks()[task].steps and result.seconds > 0


@pytest.mark.parametrize(("method", "task"), [("grpo", "letters"), ("rloo", "digging")])
def test_a_method_solves_a_task(method: str, task: str) -> None:
    solves(method, task)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "task"), [("turn_ppo", "digging"), ("vine_ppo", "digging"), ("trpo", "letters")])
def test_an_expensive_method_solves_a_task(method: str, task: str) -> None:
    solves(method, task)
