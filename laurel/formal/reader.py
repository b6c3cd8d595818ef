"""Reads a Metamath database: declarations, scopes, hypotheses, axioms, and theorems with their proofs unchecked.

What is read here is what is assumed, so this file is trusted beside the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from laurel.errors import FormalError
from laurel.formal.kernel import frame
from laurel.formal.statements import Assertion, Claim, Expression, Hypothesis, Pair
from laurel.formal.tokens import Token

_LABEL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


@dataclass(frozen=True)
class Proved:
    """A theorem as it was written: the claim, the words of its proof, and where it stands."""

    claim: Claim
    proof: tuple[Token, ...]
    place: Token


@dataclass(frozen=True)
class _Scope:
    """What was active when a block was opened."""

    opened: Token
    active: tuple[str, ...]
    hypotheses: int
    pairs: frozenset[Pair]


@dataclass
class Reader:
    """Reads tokens into what a database holds; see `laurel.formal.Database`.

    Raises:
        FormalError: naming file and line, for whatever the language does not allow.
    """

    constants: set[str] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    assertions: dict[str, Assertion] = field(default_factory=dict)
    theorems: dict[str, Proved] = field(default_factory=dict)
    _active: list[str] = field(default_factory=list)
    _hypotheses: list[Hypothesis] = field(default_factory=list)
    _pairs: frozenset[Pair] = frozenset()
    _scopes: list[_Scope] = field(default_factory=list)
    _labels: set[str] = field(default_factory=set)
    _snapshot: Mapping[str, Hypothesis] | None = None

    def read(self, words: Iterator[Token]) -> None:
        """Take in all statements."""
        for token in words:
            if token.text == "$c":
                self._constants(token, self._until(token, words, "$."))
            elif token.text == "$v":
                self._variables(token, self._until(token, words, "$."))
            elif token.text == "$d":
                self._distinct(token, self._until(token, words, "$."))
            elif token.text == "${":
                self._scopes.append(_Scope(token, tuple(self._active), len(self._hypotheses), self._pairs))
            elif token.text == "$}":
                self._close(token)
            elif "$" in token.text:
                raise FormalError(f"{token.place}: '{token.text}' starts no statement.", hint="a label is missing?")
            else:
                self._labelled(token, words)
        if self._scopes:
            raise FormalError(f"{self._scopes[-1].opened.place}: this block has no end.", hint="end it with $}.")

    @property
    def scope(self) -> Mapping[str, Hypothesis]:
        """Every active hypothesis by its label; shared between statements as long as nothing changes."""
        if self._snapshot is None:
            self._snapshot = MappingProxyType({each.label: each for each in self._hypotheses})
        return self._snapshot

    @property
    def pairs(self) -> frozenset[Pair]:
        """The pairs of distinct variables that are in force."""
        return self._pairs

    def _until(self, start: Token, words: Iterator[Token], end: str) -> list[Token]:
        """The words of a statement up to its end."""
        found: list[Token] = []
        for token in words:
            if token.text == end:
                return found
            if "$" in token.text:
                raise FormalError(f"{token.place}: '{token.text}' where '{end}' should end it.", hint=f"add '{end}'.")
            found.append(token)
        raise FormalError(f"{start.place}: this statement has no end.", hint=f"end it with {end}.")

    def _constants(self, start: Token, symbols: list[Token]) -> None:
        if self._scopes or not symbols:
            raise FormalError(f"{start.place}: $c declares symbols, outside of every block.", hint="move it out.")
        for token in symbols:
            if token.text in self.constants or token.text in self.variables or token.text in self._labels:
                raise FormalError(f"{token.place}: '{token.text}' is declared already.", hint="choose another name.")
            self.constants.add(token.text)

    def _variables(self, start: Token, symbols: list[Token]) -> None:
        if not symbols:
            raise FormalError(f"{start.place}: $v declares no variable.", hint="name one.")
        for token in symbols:
            if token.text in self._active or token.text in self.constants or token.text in self._labels:
                raise FormalError(f"{token.place}: '{token.text}' is declared already.", hint="choose another name.")
            self._active.append(token.text)
            self.variables.add(token.text)

    def _distinct(self, start: Token, symbols: list[Token]) -> None:
        names = [self._symbol(token, variable=True) for token in symbols]
        if len(set(names)) != len(names) or len(names) < 2:
            raise FormalError(f"{start.place}: $d wants two or more different variables.", hint="change the list.")
        self._pairs |= {(one, other) for one in names for other in names if one < other}

    def _close(self, token: Token) -> None:
        if not self._scopes:
            raise FormalError(f"{token.place}: '$}}' closes nothing.", hint="remove it.")
        scope = self._scopes.pop()
        self._active, self._pairs = list(scope.active), scope.pairs
        if len(self._hypotheses) > scope.hypotheses:
            del self._hypotheses[scope.hypotheses :]
            self._snapshot = None

    def _labelled(self, label: Token, words: Iterator[Token]) -> None:
        """One hypothesis, axiom or theorem."""
        if not _LABEL.issuperset(label.text):
            raise FormalError(f"{label.place}: '{label.text}' is no label.", hint="letters, digits, '-', '_' and '.'.")
        if label.text in self._labels or label.text in self.constants or label.text in self.variables:
            raise FormalError(f"{label.place}: '{label.text}' is declared already.", hint="choose another name.")
        kind = next(words, None)
        if kind is None or kind.text not in ("$f", "$e", "$a", "$p"):
            raise FormalError(f"{label.place}: after the label '{label.text}' comes $f, $e, $a or $p.", hint="add it.")
        written = self._until(label, words, "$=" if kind.text == "$p" else "$.")
        self._labels.add(label.text)
        if kind.text == "$f":
            self._floating(label, written)
            return
        expression = self._expression(label, written)
        if kind.text == "$e":
            self._add(Hypothesis(label.text, expression, floating=False))
            return
        axiom = kind.text == "$a"
        number = len(self.assertions)
        assertion = frame(label.text, expression, self._hypotheses, self._pairs, number, axiom)
        if not axiom:
            claim = Claim(assertion, self.scope, self._pairs)
            self.theorems[label.text] = Proved(claim, tuple(self._until(label, words, "$.")), label)
        self.assertions[label.text] = assertion

    def _floating(self, label: Token, written: list[Token]) -> None:
        if len(written) != 2:
            raise FormalError(f"{label.place}: '{label.text}' wants a kind and a variable.", hint="such as $f wff p $.")
        kind, variable = self._symbol(written[0], variable=False), self._symbol(written[1], variable=True)
        if any(each.floating and each.expression[1] == variable for each in self._hypotheses):
            raise FormalError(f"{label.place}: '{variable}' has a kind already.", hint=f"remove '{label.text}'.")
        self._add(Hypothesis(label.text, (kind, variable), floating=True))

    def _add(self, hypothesis: Hypothesis) -> None:
        self._hypotheses.append(hypothesis)
        self._snapshot = None

    def _expression(self, label: Token, written: list[Token]) -> Expression:
        if not written:
            raise FormalError(f"{label.place}: '{label.text}' states nothing.", hint="start with a constant.")
        kinds = {each.expression[1] for each in self._hypotheses if each.floating}
        for number, token in enumerate(written):
            if number == 0 or token.text in self.constants:
                self._symbol(token, variable=False)
            elif self._symbol(token, variable=True) not in kinds:
                raise FormalError(f"{token.place}: '{token.text}' has no kind here.", hint="give it a $f statement.")
        return tuple(token.text for token in written)

    def _symbol(self, token: Token, *, variable: bool) -> str:
        """The symbol, where it is an active one of that sort."""
        if token.text not in (self._active if variable else self.constants):
            sort = "variable that is active" if variable else "constant"
            raise FormalError(f"{token.place}: '{token.text}' is no {sort}.", hint="declare it with $v or $c.")
        return token.text
