"""What a formal database consists of, as plain values: hypotheses, assertions, and what a proof is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Expression = tuple[str, ...]
"""Symbols, the first of which is a constant that says what kind of thing the rest is."""

Pair = tuple[str, str]
"""Two different variables, in alphabetical order."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What is assumed: that a variable is of a kind (floating, two symbols), or a statement (essential)."""

    label: str
    expression: Expression
    floating: bool


@dataclass(frozen=True, slots=True)
class Assertion:
    """An axiom or a theorem with its frame.

    Attributes:
        label: its name.
        expression: what it states.
        hypotheses: the mandatory ones, in the order in which they were written.
        disjoint: pairs of its variables that may not be replaced by anything that shares a variable.
        number: its place among the assertions; a proof may use smaller ones only.
        axiom: stated without a proof.
    """

    label: str
    expression: Expression
    hypotheses: tuple[Hypothesis, ...]
    disjoint: frozenset[Pair]
    number: int
    axiom: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """What a proof is asked for.

    Attributes:
        assertion: the statement with its frame; `number` says before which assertions it stands.
        scope: every active hypothesis by its label, also those of variables that only the proof may use.
        disjoint: every pair of variables that is in force as distinct.
    """

    assertion: Assertion
    scope: Mapping[str, Hypothesis]
    disjoint: frozenset[Pair]
