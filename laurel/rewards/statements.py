"""Formal statements as answers: whether one says what it was asked to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from laurel.errors import FormalError
from laurel.formal import claim_of, equivalent, grammar, read_statement, same_up_to_names
from laurel.tasks.task import Task
from laurel.tree import Failed, Score


@dataclass(frozen=True)
class FormalStatement:
    """See `formal_statement`."""

    runs_in_process: ClassVar[bool] = True
    has_other_answers: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ("reads", "equivalent", "same")
    database: str = "propositional"

    def __post_init__(self) -> None:
        grammar(self.database)

    def __call__(self, task: Task, text: str) -> Score | Failed:
        system = grammar(self.database)
        try:
            meant = system.goal(claim_of(system, task.data))
        except FormalError as error:
            return Failed(f"task {task.id} says nothing that could be formalised: {error.message}")
        try:
            term = read_statement(system, text)
        except FormalError:
            return Score(0.0, {"reads": 0.0, "equivalent": 0.0, "same": 0.0})
        same = same_up_to_names(system, meant, term)
        try:
            alike = same or equivalent(system, meant, term)
        except FormalError:  # too many variables for a truth table, which the statement that is meant has not
            alike = False
        return Score(float(same), {"reads": 1.0, "equivalent": float(alike), "same": float(same)})


def formal_statement(*, database: str = "propositional") -> FormalStatement:
    """1 where the answer is the statement that the task's words say, up to the names of variables, else 0.

    The answer is a statement of the database, with or without "|-" in front; where every symbol is a single character,
    white space may be left out. Parts: `reads`: it is a statement; `equivalent`: it has the same truth table; `same`:
    what is paid. Equivalence is not enough: all theorems are equivalent, and a proof of another one proves nothing.

    Args:
        database: "implication", "propositional", or the path of a `.mm` file with the syntax axioms "wi" and "wn".

    Raises:
        FormalError: there is no such database, or it is not sound.
    """
    return FormalStatement(database)
