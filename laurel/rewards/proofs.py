"""Formal proofs as answers: a verifier says whether a statement is proved, and nothing else counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from laurel.errors import FormalError
from laurel.formal import Steps, claim_of, grammar, refusal
from laurel.tasks.task import Task
from laurel.tree import Failed


@dataclass(frozen=True)
class MetamathProof:
    """See `metamath_proof`."""

    runs_in_process: ClassVar[bool] = True
    has_other_answers: ClassVar[bool] = True
    database: str = "implication"
    steps: Steps = "cited"

    def __post_init__(self) -> None:
        grammar(self.database)

    def __call__(self, task: Task, text: str) -> float | Failed:
        system = grammar(self.database)
        try:
            claim = claim_of(system, task.data)
        except FormalError as error:
            return Failed(f"task {task.id} cannot be proved or refuted: {error.message}")
        return float(refusal(system, claim, text, self.steps) is None)


def metamath_proof(*, database: str = "implication", steps: Steps = "cited") -> MetamathProof:
    """1 where the answer proves the task's statement by the rules of a Metamath database, else 0.

    The statement stands in the task's data, as `statement` ("|- C p q", see `laurel.formal.Database.goal`) or as
    `theorem`, the label of one in the database. The answer is the labels of its proof in order, each after the proofs
    of its hypotheses. White space stands between them; where every label that can be cited is a single character,
    it may be left out. A proof may use what stands before the statement in the database, and nothing else: there is no
    way to write an axiom into an answer, and neither the statement itself nor what follows it can be cited.

    Whatever the answer is, the trusted kernel (`laurel.formal.kernel`) has the last word, and its work is bounded. A
    statement that is not one of the database fails.

    Args:
        database: "implication", "propositional", or the path of a `.mm` file; all of its own proofs are verified first.
        steps: "cited": only axioms and theorems about what is provable; what is substituted is found by unification.
            "all": every step of a Metamath proof, which may also be compressed.

    Raises:
        FormalError: there is no such database, or it is not sound.
    """
    return MetamathProof(database, steps)
