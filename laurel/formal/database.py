"""A database of axioms and verified theorems, and what may be proved on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from laurel.errors import FormalError
from laurel.formal.kernel import BUDGET, ProofError, check, frame
from laurel.formal.proofs import decode
from laurel.formal.reader import Proved, Reader
from laurel.formal.statements import Assertion, Claim, Expression, Hypothesis
from laurel.formal.tokens import read_text, tokens


class Database:
    """A Metamath database, every theorem of which has been verified.

        database = Database.read("implication.mm")
        claim = database.goal("|- C p C q p")
        database.verify(claim, "wp wq 1".split())            # returns, or says what is wrong

    Args:
        text: the database.
        name: what errors call it.
        folder: where files that it includes are looked for; None: it includes none.

    Raises:
        FormalError: naming file and line, where the text is no database or a proof in it is refused.
    """

    def __init__(self, text: str, name: str = "database", folder: Path | None = None) -> None:
        self.name = name
        reader = Reader()
        reader.read(tokens(text, name, folder))
        self.constants, self.variables = frozenset(reader.constants), frozenset(reader.variables)
        self.assertions: Mapping[str, Assertion] = MappingProxyType(reader.assertions)
        self.theorems: Mapping[str, Proved] = MappingProxyType(reader.theorems)
        self.scope, self._pairs = reader.scope, reader.pairs
        for label, theorem in self.theorems.items():
            self._verify_own(label, theorem)

    @classmethod
    def read(cls, path: str | Path) -> Database:
        """The database in a file; others that it includes lie in the same folder or below."""
        path = Path(path)
        return cls(read_text(path, str(path)), path.name, path.parent)

    def claim(self, label: str) -> Claim:
        """A theorem of the database as something to be proved again, from what stands before it.

        Raises:
            FormalError: there is no such theorem.
        """
        if label not in self.theorems:
            raise FormalError(f"{self.name} has no theorem '{label}'.", hint="name one that has a proof there.")
        return self.theorems[label].claim

    def goal(self, statement: str) -> Claim:
        """A statement without hypotheses as something to be proved, after everything that the database holds.

        Where a theorem states the same, up to the names of variables, only what stands before that theorem is allowed.

        Args:
            statement: symbols with white space between them, the kind first: "|- C p p".

        Raises:
            FormalError: naming the symbol that is not one of the database.
        """
        expression = tuple(statement.split())
        kinds = {each.expression[1] for each in self.scope.values() if each.floating}
        if not expression or expression[0] not in self._stated:
            raise FormalError(
                f"{statement[:80]!r} does not start as the assertions of {self.name} do.",
                hint=f"start with one of {', '.join(sorted(self._stated))}.",
            )
        for symbol in expression:
            if symbol not in self.constants and symbol not in kinds:
                raise FormalError(
                    f"{statement[:80]!r}: {self.name} has no symbol '{symbol[:40]}'.", hint="spell it so."
                )
        number = self._first.get(self._renamed(expression), len(self.assertions))
        floating = [each for each in self.scope.values() if each.floating]
        assertion = frame("goal", expression, floating, self._pairs, number, axiom=False)
        return Claim(assertion, MappingProxyType({each.label: each for each in floating}), self._pairs)

    def verify(self, claim: Claim, proof: Sequence[str], *, budget: int = BUDGET) -> None:
        """Return where the proof, labels in order or compressed, proves the claim.

        Args:
            budget: how many symbols it may push.

        Raises:
            ProofError: naming the step and the reason.
        """
        check(claim, decode(claim, proof), self.assertions, budget=budget)

    def _verify_own(self, label: str, theorem: Proved) -> None:
        try:
            self.verify(theorem.claim, [token.text for token in theorem.proof])
        except ProofError as error:
            plain = error.step is not None and theorem.proof[0].text != "("
            place = theorem.proof[error.step - 1].place if plain and error.step else theorem.place.place
            raise FormalError(f"{place}: theorem '{label}': {error.message}", hint="mend its proof.") from error

    @cached_property
    def _stated(self) -> frozenset[str]:
        """The kinds of things that are stated."""
        return frozenset(assertion.expression[0] for assertion in self.assertions.values())

    @cached_property
    def _first(self) -> Mapping[tuple[str, ...], int]:
        """The number of the first theorem without essential hypotheses that states something, up to names."""
        first: dict[tuple[str, ...], int] = {}
        for assertion in self.assertions.values():
            if not assertion.axiom and all(each.floating for each in assertion.hypotheses):
                kinds = {each.expression[1]: each.expression[0] for each in assertion.hypotheses}
                first.setdefault(_renamed(assertion.expression, kinds), assertion.number)
        return first

    def _renamed(self, expression: Expression) -> tuple[str, ...]:
        return _renamed(expression, {each.expression[1]: each.expression[0] for each in _floating(self.scope)})


def _floating(scope: Mapping[str, Hypothesis]) -> list[Hypothesis]:
    return [each for each in scope.values() if each.floating]


def _renamed(expression: Expression, kinds: Mapping[str, str]) -> tuple[str, ...]:
    """The expression with each variable as its kind and the number of its first occurrence."""
    seen: dict[str, str] = {}
    for symbol in expression:
        if symbol in kinds:
            seen.setdefault(symbol, f"{kinds[symbol]} {len(seen)}")
    return tuple(seen.get(symbol, symbol) for symbol in expression)
