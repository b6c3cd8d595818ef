"""Statements as terms: the syntax axioms of a database read as a grammar. Nothing here is trusted.

A term is written in prefix form without brackets, as the labels of syntax axioms and the names of variables: for the
statement |- C p C q p it is ("wi", "p", "wi", "q", "p"). Unknown parts are `Unknown` values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from laurel.errors import FormalError
from laurel.formal.database import Database
from laurel.formal.statements import Assertion, Claim, Expression

PROVABLE = "|-"


class Unknown(NamedTuple):
    """A part of a term that unification may still choose."""

    number: int
    kind: str


Symbol = str | Unknown
Term = tuple[Symbol, ...]


@dataclass(frozen=True)
class Rule:
    """An assertion about what is provable, as terms over its own variables.

    Attributes:
        kinds: of its mandatory variables, in the order of their hypotheses.
        hypotheses: its essential ones.
    """

    assertion: Assertion
    kinds: dict[str, str]
    hypotheses: tuple[Term, ...]
    conclusion: Term


class Grammar:
    """Reads and writes the statements of one database.

    Reading is greedy: symbols are pushed, and whatever the top of the stack spells of a syntax axiom is replaced by its
    kind. This is linear, and reads grammars in prefix form or with brackets. Where it misreads others, proofs that are
    found with it are refused by the kernel; none is accepted because of it.

    Args:
        database: whose statements; syntax axioms are those whose first constant is the kind of a variable.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        floating = [each for each in database.scope.values() if each.floating]
        self.kinds = {each.expression[1]: each.expression[0] for each in floating}
        self.label_of_variable = {each.expression[1]: each.label for each in floating}
        kinds = set(self.kinds.values())
        self.syntax: dict[str, tuple[Assertion, tuple[str, ...]]] = {}
        for assertion in database.assertions.values():
            plain = all(each.floating for each in assertion.hypotheses)
            if assertion.axiom and plain and assertion.expression[0] in kinds:
                variables = tuple(each.expression[1] for each in assertion.hypotheses)
                if all(assertion.expression.count(variable) == 1 for variable in variables):
                    self.syntax[assertion.label] = (assertion, variables)

    @cached_property
    def rules(self) -> dict[str, Rule]:
        """What a proof may cite: every assertion about what is provable whose statements can be read."""
        rules = {}
        for assertion in self.database.assertions.values():
            if assertion.expression[0] == PROVABLE:
                essential = [each.expression for each in assertion.hypotheses if not each.floating]
                kinds = {each.expression[1]: each.expression[0] for each in assertion.hypotheses if each.floating}
                hypotheses = tuple(self.term(expression, kinds) for expression in essential)
                rules[assertion.label] = Rule(assertion, kinds, hypotheses, self.term(assertion.expression, kinds))
        return rules

    def goal(self, claim: Claim) -> Term:
        """What is to be proved, as a term."""
        return self.term(claim.assertion.expression, self.kinds_in(claim))

    def kinds_in(self, claim: Claim) -> dict[str, str]:
        """The kinds of the variables that a proof of the claim may use."""
        return {each.expression[1]: each.expression[0] for each in claim.scope.values() if each.floating}

    def term(self, expression: Expression, kinds: dict[str, str] | None = None) -> Term:
        """Read an expression; the constant in front is left out.

        Raises:
            FormalError: it cannot be read.
        """
        kinds = self.kinds if kinds is None else kinds
        stack: list[tuple[str, Term | None]] = []  # (symbol or kind, the term of that kind)
        for symbol in expression[1:]:
            kind = kinds.get(symbol)
            stack.append((symbol, None) if kind is None else (kind, (symbol,)))
            while self._reduced(stack):
                pass
        if len(stack) != 1 or stack[0][1] is None:
            raise FormalError(
                f"'{' '.join(expression[:40])}' cannot be read by the syntax axioms of {self.database.name}.",
                hint="write it by them, with a space between symbols.",
            )
        return stack[0][1]

    def _reduced(self, stack: list[tuple[str, Term | None]]) -> bool:
        """Replace what one syntax axiom spells at the top of the stack by its kind."""
        for label, (assertion, variables) in self.syntax.items():
            pattern = assertion.expression[1:]
            top = stack[len(stack) - len(pattern) :]
            if len(stack) < len(pattern) or not pattern:
                continue
            kinds = {each.expression[1]: each.expression[0] for each in assertion.hypotheses}
            found: dict[str, Term] = {}
            for symbol, (name, term) in zip(pattern, top, strict=True):
                if kinds.get(symbol, symbol) != name or (term is None) is not (symbol not in kinds):
                    break
                if term is not None:
                    found[symbol] = term
            else:
                del stack[len(stack) - len(pattern) :]
                term = (label, *(part for variable in variables for part in found[variable]))
                stack.append((assertion.expression[0], term))
                return True
        return False

    def kind(self, symbol: Symbol, kinds: Mapping[str, str] | None = None) -> str:
        """Of what kind a term is that starts with this symbol."""
        if isinstance(symbol, Unknown):
            return symbol.kind
        if symbol in self.syntax:
            return self.syntax[symbol][0].expression[0]
        return (self.kinds if kinds is None else kinds)[symbol]

    def arity(self, symbol: Symbol) -> int:
        """How many terms follow a symbol."""
        return len(self.syntax[symbol][1]) if isinstance(symbol, str) and symbol in self.syntax else 0

    def end(self, term: Term, start: int) -> int:
        """Where the part of a term that starts there ends."""
        wanted, place = 1, start
        while wanted:
            wanted += self.arity(term[place]) - 1
            place += 1
        return place

    def parts(self, term: Term) -> list[Term]:
        """The terms that follow the first symbol."""
        parts, place = [], 1
        while place < len(term):
            end = self.end(term, place)
            parts.append(term[place:end])
            place = end
        return parts

    def written(self, term: Term) -> Expression:
        """The symbols that a term stands for, without a kind in front; an unknown part is "?" and its number."""
        stack: list[Expression] = []
        for symbol in reversed(term):
            if isinstance(symbol, Unknown):
                stack.append((f"?{symbol.number}",))
            elif symbol in self.syntax:
                assertion, variables = self.syntax[symbol]
                values = {variable: stack.pop() for variable in variables}
                stack.append(tuple(part for each in assertion.expression[1:] for part in values.get(each, (each,))))
            else:
                stack.append((symbol,))
        return stack[0]

    @cached_property
    def compact(self) -> bool:
        """Whether every symbol of a statement, and every label that a proof cites, is a single character, so that no
        spaces are needed between them."""
        stated = {symbol for rule in self.rules.values() for symbol in rule.assertion.expression[1:]}
        formed = {symbol for axiom, _ in self.syntax.values() for symbol in axiom.expression[1:]}
        return all(len(word) == 1 for word in {*stated, *formed, *self.kinds, *self.rules})

    def text(self, term: Term) -> str:
        """A term as a task shows it: without a kind in front, and without spaces where none are needed."""
        return ("" if self.compact else " ").join(self.written(term))

    def formation(self, term: Term, labels: dict[str, str]) -> list[str]:
        """The labels that build a term without unknown parts on the stack of a proof.

        Args:
            labels: of the floating hypotheses, by variable.
        """
        stack: list[list[str]] = []
        for symbol in reversed(term):
            assert isinstance(symbol, str)
            if symbol in self.syntax:
                parts = [stack.pop() for _ in range(self.arity(symbol))]
                stack.append([label for part in parts for label in part] + [symbol])
            else:
                stack.append([labels[symbol]])
        return stack[0]
