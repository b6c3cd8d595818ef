"""The databases that come with Laurel, by name, and any other by its file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from laurel.errors import FormalError
from laurel.formal.database import Database
from laurel.formal.grammar import Grammar
from laurel.formal.statements import Claim

HERE = Path(__file__).parent
SYSTEMS = {"implication": HERE / "implication.mm", "propositional": HERE / "propositional.mm"}


def grammar(database: str) -> Grammar:
    """A database with its syntax, read and verified once.

    Args:
        database: "implication", "propositional", or the path of a `.mm` file.

    Raises:
        FormalError: there is no such database, or it is not sound in itself.
    """
    if database not in SYSTEMS and not database.endswith(".mm"):
        raise FormalError(f"'{database}' is no database.", hint=f"{', '.join(SYSTEMS)}, or the path of a .mm file.")
    return _read(str(SYSTEMS.get(database, Path(database)).resolve()))


def claim_of(system: Grammar, data: Mapping[str, object]) -> Claim:
    """What a task wants to be proved: `theorem`, a label of the database, or `statement`, such as "|- C p p".

    Args:
        data: of the task.

    Raises:
        FormalError: it says nothing that the database can state.
    """
    theorem, statement = data.get("theorem"), data.get("statement")
    if isinstance(theorem, str):
        return system.database.claim(theorem)
    if not isinstance(statement, str):
        raise FormalError("it has neither a 'statement' nor a 'theorem'.", hint="take laurel.tasks.theorems.")
    claim = system.database.goal(statement)
    system.goal(claim)
    return claim


@cache
def _read(path: str) -> Grammar:
    return Grammar(Database.read(path))
