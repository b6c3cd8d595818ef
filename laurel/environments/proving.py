"""Formal proofs one tactic at a time: the action is a label, and the environment says what is left to be proved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from laurel.environments.conversation import Conversation, Dialogue
from laurel.errors import ConfigurationError, FormalError, TaskError
from laurel.formal import Backward, Claim, Grammar, ProofError, claim_of, grammar
from laurel.tasks.task import Task

SEPARATOR = "|"
"""Stands between goals where symbols are written without spaces."""


@dataclass(frozen=True)
class Metamath(Conversation):
    """The policy proves a statement from its end, by naming what gives the first goal that is left.

        prompt        Cpp:               |- C p p
        policy        D                  detachment gives it, from C 1 C p p and from 1, whatever 1 may be
        environment   C1Cpp|1:           what is left, the first goal first
        policy        D
        environment   C1C2Cpp|1|2:       open parts are numbered anew, by their first occurrence
        policy        2                  distribution gives the first goal, which settles 1 and a part of 2
        environment   CpC1p|Cp1:
        policy        1
        environment   Cp1:
        policy        1                  reward 1, terminated

    Where nothing is left, the steps are put together
    and verified by the kernel, exactly as `laurel.rewards.metamath_proof` does: then the last turn earns 1. A step that
    is impossible is answered "no " and the same goals, and costs its turn. Running out of turns earns 0 and is
    terminated, as the rules say so.

    The statement is that of the task's data, as for `laurel.rewards.metamath_proof`, and the prompt is the task's own.
    Whatever the policy writes, it can cite only what stands before the statement.

    Attributes:
        database: "implication", "propositional", or the path of a `.mm` file.
        turns: how many steps there are.
        refusal: how an impossible step is answered, before the goals.
        shown_goals: how many of the goals that are left are shown; the first one is what the next step is about.
    """

    runs_in_process: ClassVar[bool] = True
    database: str = "implication"
    turns: int = 8
    refusal: str = "no "
    shown_goals: int = 4

    def __post_init__(self) -> None:
        if not (1 <= self.turns <= 100 and self.shown_goals >= 1):
            raise ConfigurationError(
                f"metamath: turns={self.turns} and shown_goals={self.shown_goals} is no game.",
                hint="choose 1 to 100 turns, and show at least one goal.",
            )
        grammar(self.database)

    def converse(self, task: Task, rollout_id: str) -> Dialogue:
        """One proof."""
        system = grammar(self.database)
        claim = _claim(system, task)
        proof = Backward(system, claim)
        text = yield task.prompt
        for turn in range(1, self.turns + 1):
            said = ""
            try:
                proof.apply(text.strip())
            except ProofError:
                said = self.refusal
            goals = proof.goals
            if not goals:
                return float(_verified(system, claim, proof))
            if turn == self.turns:
                return 0.0
            text = yield said + self._shown(system, goals)
        raise AssertionError("unreachable: the last turn returns")

    def _shown(self, system: Grammar, goals: list[str]) -> str:
        """Goals as text, their open parts numbered anew so that equal states read the same."""
        names: dict[str, str] = {}
        written = []
        for goal in goals[: self.shown_goals]:
            symbols = [
                names.setdefault(symbol, str(len(names) + 1)) if symbol.startswith("?") else symbol
                for symbol in goal.split()
            ]
            written.append(("" if system.compact else " ").join(symbols))
        return SEPARATOR.join(written) + ":"


def _claim(system: Grammar, task: Task) -> Claim:
    try:
        return claim_of(system, task.data)
    except FormalError as error:
        raise TaskError(f"Task {task.id}: {error.message}", hint=error.hint) from error


def _verified(system: Grammar, claim: Claim, proof: Backward) -> bool:
    """What the kernel says of the proof that was put together."""
    try:
        system.database.verify(claim, proof.whole())
    except ProofError:
        return False
    return True
