"""What can be proved in few steps: every most general theorem, by enumeration of condensed proofs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from laurel.formal.grammar import Grammar, Rule, Term, Unknown
from laurel.formal.unify import concluded, generalised, renamed


@dataclass(frozen=True)
class Found:
    """A most general theorem.

    Attributes:
        term: its unknown parts may be anything.
        proof: the labels of a shortest proof.
        steps: how many rules with hypotheses it applies.
    """

    term: Term
    proof: tuple[str, ...]
    steps: int


def principal_theorems(grammar: Grammar, steps: int, *, longest: int = 40) -> list[Found]:
    """Every statement that at most so many applications of rules prove in full generality, the shortest proofs first.

    A statement is provable in n applications exactly where one of these with at most n covers it, unless its proof
    goes through a statement of more than `longest` symbols. Found as a case of an earlier one, a theorem is left out.

    Args:
        longest: statements with more symbols are not used.
    """
    axioms = [rule for rule in grammar.rules.values() if not rule.hypotheses]
    rules = [rule for rule in grammar.rules.values() if rule.hypotheses]
    levels: list[list[Found]] = [[]]
    known: list[Found] = []

    def offer(term: Term, proof: tuple[str, ...], level: int) -> None:
        if len(term) <= longest and not any(covers(grammar, each.term, term) for each in known):
            found = Found(term, proof, level)
            levels[level].append(found)
            known.append(found)

    for rule in axioms:
        values = {variable: Unknown(number, kind) for number, (variable, kind) in enumerate(rule.kinds.items(), 1)}
        offer(generalised(renamed(rule.conclusion, values)), (rule.assertion.label,), 0)
    for level in range(1, steps + 1):
        levels.append([])
        for rule in rules:
            for premises in _premises(levels, rule, level - 1):
                term = concluded(grammar, rule, [each.term for each in premises])
                if term is not None:
                    proof = tuple(label for each in premises for label in each.proof)
                    offer(term, (*proof, rule.assertion.label), level)
    return known


def _premises(levels: list[list[Found]], rule: Rule, steps: int) -> Iterator[tuple[Found, ...]]:
    """Every choice of theorems for the hypotheses of a rule that took so many steps together."""
    for shares in itertools.product(range(steps + 1), repeat=len(rule.hypotheses)):
        if sum(shares) == steps:
            yield from itertools.product(*(tuple(levels[share]) for share in shares))


def covers(grammar: Grammar, general: Term, term: Term) -> bool:
    """Whether a term is the general one with values for its unknown parts."""
    values: dict[Unknown, Term] = {}
    place = 0
    for symbol in general:
        if place >= len(term):
            return False
        if isinstance(symbol, Unknown):
            end = grammar.end(term, place)
            part = term[place:end]
            if values.setdefault(symbol, part) != part or grammar.kind(part[0]) != symbol.kind:
                return False
            place = end
        elif symbol != term[place]:
            return False
        else:
            place += 1
    return place == len(term)
