"""Answers that claim to be proofs, and the chain from an informal statement to a verified proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from laurel.errors import FormalError
from laurel.formal.elaborate import elaborate
from laurel.formal.english import read_english
from laurel.formal.grammar import PROVABLE, Grammar
from laurel.formal.kernel import ProofError
from laurel.formal.meaning import read_statement, same_up_to_names
from laurel.formal.statements import Claim
from laurel.formal.systems import grammar

Steps = Literal["cited", "all"]
Writer = Callable[[str], str]
"""What answers a text: a policy (`laurel.rollout.Respondent`), a program, a person."""


def refusal(system: Grammar, claim: Claim, text: str, steps: Steps = "cited") -> str | None:
    """Why an answer does not prove a claim; None where it does, by the word of the kernel.

    Args:
        steps: see `laurel.rewards.metamath_proof`.
    """
    labels = text.split()
    try:
        if steps == "cited":
            if all(len(label) == 1 for label in system.rules):
                labels = list("".join(labels))
            labels = elaborate(system, claim, labels)
        system.database.verify(claim, labels)
    except ProofError as error:
        return error.message
    return None


@dataclass(frozen=True)
class Attempt:
    """What came of an informal statement.

    Attributes:
        informal: as it was given.
        statement: what the formaliser made of it, as the database writes it; None where that is no statement.
        formalisation: "verified": it says what the controlled English says, up to names. "wrong": it says something
            else. "unverified": the informal statement is no controlled English, so that nobody knows. "unreadable":
            the formaliser wrote no statement.
        proof: what the prover wrote; None where it was not asked.
        proved: whether the kernel accepted that as a proof of `statement`.
        reason: why not.
    """

    informal: str
    statement: str | None
    formalisation: Literal["verified", "wrong", "unverified", "unreadable"]
    proof: str | None = None
    proved: bool = False
    reason: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the informal statement itself was proved: its formalisation was verified, and that was proved."""
        return self.proved and self.formalisation == "verified"


def prove(
    informal: str, formaliser: Writer, prover: Writer, *, database: str = "propositional", steps: Steps = "cited"
) -> Attempt:
    """Formalise a statement, prove it, check the proof, and say what has been shown.

    A proof counts of the statement as it was formalised. Whether that is what was meant is a question of its own, which
    a kernel cannot answer: here an exact reader of controlled English does.

    Args:
        formaliser: from the informal statement and a colon to a formal one, as `laurel.tasks.formalisations` asks.
        prover: from the formal statement and a colon to a proof, as `laurel.tasks.theorems` asks.
        database, steps: see `laurel.rewards.metamath_proof`.

    Raises:
        FormalError: there is no such database.
    """
    system = grammar(database)
    try:
        term = read_statement(system, formaliser(f"{informal}:"))
    except FormalError as error:
        return Attempt(informal, None, "unreadable", reason=error.message)
    statement = " ".join((PROVABLE, *system.written(term)))
    formalisation: Literal["verified", "wrong", "unverified"] = "unverified"
    try:
        formalisation = "verified" if same_up_to_names(system, read_english(system, informal), term) else "wrong"
    except FormalError as error:
        said: str | None = error.message
    else:
        said = None if formalisation == "verified" else "the formal statement says something else"
    proof = prover(f"{system.text(term)}:")
    refused = refusal(system, system.database.goal(statement), proof, steps)
    return Attempt(informal, statement, formalisation, proof, refused is None, refused or said)
