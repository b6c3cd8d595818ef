"""A proof from its end: a rule is matched with the first open goal, and its hypotheses become goals, up to none."""

from __future__ import annotations

from laurel.formal.elaborate import MOST_STEPS, cited, elaborate
from laurel.formal.grammar import Grammar, Term
from laurel.formal.kernel import ProofError, shown
from laurel.formal.statements import Claim, Hypothesis
from laurel.formal.unify import Unifier


class Backward:
    """An unfinished proof.

        proof = Backward(grammar, database.goal("|- C p p"))
        proof.apply("D")                     # goals: C ?1 C p p, then ?1
        proof.goals

    What a rule leaves open stands as "?1" in all goals until a later step settles it.
    """

    def __init__(self, grammar: Grammar, claim: Claim) -> None:
        self.grammar, self.claim = grammar, claim
        self._kinds = grammar.kinds_in(claim)
        self._unifier = Unifier(grammar)
        self._open: list[Term] = [grammar.goal(claim)]
        self._applied: list[tuple[str, int]] = []

    @property
    def goals(self) -> list[str]:
        """What is still to be proved, first what the next step is about; empty where the proof is whole."""
        return [shown(self.grammar.written(self._unifier.resolved(term))) for term in self._open]

    def apply(self, label: str) -> None:
        """Prove the first goal by an assertion or a hypothesis, up to the hypotheses of that.

        Raises:
            ProofError: it cannot, and why; then nothing has changed.
        """
        if not self._open:
            raise ProofError("nothing is left to be proved.")
        if len(self._applied) == MOST_STEPS:
            raise ProofError(f"a proof has at most {MOST_STEPS} steps.")
        found = cited(self.grammar, self.claim, label)
        hypotheses: list[Term] = []
        if isinstance(found, Hypothesis):
            conclusion = self.grammar.term(found.expression, self._kinds)
        else:
            _, hypotheses, conclusion = self._unifier.instance(found)
        before = dict(self._unifier.bindings)
        if not self._unifier.unify(conclusion, self._open[0], self._kinds):
            raise ProofError(f"'{label}' does not give '{self.goals[0]}'.")
        goals = [*hypotheses, *self._open[1:]]
        try:
            for goal in goals:
                self._unifier.resolved(goal)
        except ProofError:
            self._unifier.bindings = before
            raise
        self._open = goals
        self._applied.append((label, len(hypotheses)))

    @property
    def labels(self) -> list[str]:
        """The steps in the order of a written proof, each after the proofs of its hypotheses; whole proofs only."""
        stack: list[list[str]] = []
        for label, needed in reversed(self._applied):
            before = [stack.pop() for _ in range(needed)]
            stack.append([each for part in before for each in part] + [label])
        return stack[0]

    def whole(self) -> list[str]:
        """The whole proof, for the kernel.

        Raises:
            ProofError: goals are left.
        """
        if self._open:
            raise ProofError(f"{len(self._open)} goals are left.")
        return elaborate(self.grammar, self.claim, self.labels)
