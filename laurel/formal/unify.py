"""Unification of terms with unknown parts: the most general values that make two of them equal. Nothing is trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from laurel.formal.grammar import Grammar, Rule, Term, Unknown
from laurel.formal.kernel import ProofError

MOST_SYMBOLS = 2000
"""Of one term: unification can double a term in every step, so a short proof could need any memory."""

_MOST_COMPARISONS = 1_000_000
"""Symbols that one unifier looks at in its life."""


class Unifier:
    """Unknown parts and what has been found out about them.

    Robinson's algorithm with bindings that refer to each other, without recursion. What takes too long, in all, counts
    as not unifiable.
    """

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.bindings: dict[Unknown, Term] = {}
        self._count = 0
        self._looked_at = 0

    def fresh(self, kind: str) -> Unknown:
        """An unknown part that is nowhere yet."""
        self._count += 1
        return Unknown(self._count, kind)

    def instance(self, rule: Rule) -> tuple[dict[str, Unknown], list[Term], Term]:
        """(values of its variables, hypotheses, conclusion) of a rule with fresh unknown parts for its variables."""
        values = {variable: self.fresh(kind) for variable, kind in rule.kinds.items()}
        return values, [renamed(term, values) for term in rule.hypotheses], renamed(rule.conclusion, values)

    def unify(self, left: Term, right: Term, kinds: Mapping[str, str]) -> bool:
        """Whether two terms can be made equal; then they are from now on, and otherwise nothing has changed.

        Args:
            kinds: of the variables that stand for themselves.
        """
        before = dict(self.bindings)
        work = [(left, right)]
        while work:
            one, other = (self._walked(term) for term in work.pop())
            self._looked_at += len(one) + len(other)
            if self._looked_at > _MOST_COMPARISONS:
                break
            if one == other:
                continue
            if isinstance(other[0], Unknown):
                one, other = other, one
            if isinstance(one[0], Unknown):
                if self.grammar.kind(other[0], kinds) != one[0].kind or self._occurs(one[0], other):
                    break
                self.bindings[one[0]] = other
            elif one[0] != other[0]:
                break
            else:
                work += zip(self.grammar.parts(one), self.grammar.parts(other), strict=True)
        else:
            return True
        self.bindings = before
        return False

    def resolved(self, term: Term) -> Term:
        """The term with everything put in that is known.

        Raises:
            ProofError: it has more than `MOST_SYMBOLS` symbols.
        """
        result: list[str | Unknown] = []
        stack = list(reversed(term))
        while stack:
            symbol = stack.pop()
            if isinstance(symbol, Unknown) and symbol in self.bindings:
                stack += reversed(self.bindings[symbol])
            else:
                result.append(symbol)
            if len(result) + len(stack) > MOST_SYMBOLS:
                raise ProofError("a statement of this proof is too long.", hint="prove it in smaller pieces.")
        return tuple(result)

    def _walked(self, term: Term) -> Term:
        while isinstance(term[0], Unknown) and term[0] in self.bindings:
            term = self.bindings[term[0]]
        return term

    def _occurs(self, unknown: Unknown, term: Term) -> bool:
        seen: set[Unknown] = set()
        stack = [term]
        while stack:
            part = stack.pop()
            self._looked_at += len(part)
            for symbol in part:
                if symbol == unknown:
                    return True
                if isinstance(symbol, Unknown) and symbol not in seen:
                    seen.add(symbol)
                    if symbol in self.bindings:
                        stack.append(self.bindings[symbol])
        return False


def renamed(term: Term, values: Mapping[str, Unknown]) -> Term:
    """A term with its variables replaced by unknown parts."""
    return tuple(values.get(symbol, symbol) if isinstance(symbol, str) else symbol for symbol in term)


def generalised(term: Term) -> Term:
    """A term with its unknown parts numbered from 1 in the order in which they occur: equal up to names is equal."""
    seen: dict[Unknown, Unknown] = {}
    for symbol in term:
        if isinstance(symbol, Unknown):
            seen.setdefault(symbol, Unknown(len(seen) + 1, symbol.kind))
    return tuple(seen.get(symbol, symbol) if isinstance(symbol, Unknown) else symbol for symbol in term)


def apart(term: Term, unifier: Unifier) -> Term:
    """A term with unknown parts that occur nowhere else."""
    values = {symbol: unifier.fresh(symbol.kind) for symbol in dict.fromkeys(term) if isinstance(symbol, Unknown)}
    return tuple(values.get(symbol, symbol) if isinstance(symbol, Unknown) else symbol for symbol in term)


def concluded(grammar: Grammar, rule: Rule, premises: Sequence[Term]) -> Term | None:
    """The most general statement that a rule gives of these premises; None where it does not apply to them.

    For detachment this is Meredith's condensed detachment.
    """
    unifier = Unifier(grammar)
    _, hypotheses, conclusion = unifier.instance(rule)
    for hypothesis, premise in zip(hypotheses, premises, strict=True):
        if not unifier.unify(hypothesis, apart(premise, unifier), grammar.kinds):
            return None
    try:
        return generalised(unifier.resolved(conclusion))
    except ProofError:
        return None
