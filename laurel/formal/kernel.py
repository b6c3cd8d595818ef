"""The trusted core of the verifier: when a proof proves a statement. Nothing here reads files, parses or searches.

A Metamath proof is a program for a stack of expressions. A hypothesis pushes its expression. An assertion takes one
entry for each of its mandatory hypotheses off the stack, deepest first: a floating one ("p is a wff") says what its
variable stands for, and an essential one must then read, after substitution, exactly like its entry. It pushes its own
statement under that substitution. The proof holds where the statement is all that is left.

Whoever trusts an accepted proof trusts this file, and `laurel.formal.reader`, which reads what is assumed. Decoding of
proofs, unification and search may be wrong: they can lose a proof, and never let a false one pass.

Source: N. Megill and D. A. Wheeler, "Metamath: A Computer Language for Mathematical Proofs" (2019), section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from laurel.errors import FormalError
from laurel.formal.statements import Assertion, Claim, Expression, Hypothesis, Pair

BUDGET = 1_000_000
"""How many symbols one proof may push: each step can double an expression, so a short proof could need any memory."""

_SHOWN_SYMBOLS = 40


class ProofError(FormalError):
    """A proof is refused; the message says at which step and why.

    Attributes:
        step: the number of the step, from 1; None where it concerns the whole proof.
    """

    def __init__(self, message: str, *, step: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.step = step


@dataclass(frozen=True, slots=True)
class Save:
    """Remember the top of the stack."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Push what was remembered, counted from 0."""

    number: int


Step = str | Save | Recall


def frame(
    label: str, expression: Expression, active: Iterable[Hypothesis], disjoint: Iterable[Pair], number: int, axiom: bool
) -> Assertion:
    """An assertion with its mandatory hypotheses: every active essential one, and the floating one of every variable
    that occurs in the statement or in an essential hypothesis; and the distinct pairs among those variables.
    """
    active = tuple(active)
    used = set(expression).union(*(hypothesis.expression for hypothesis in active if not hypothesis.floating))
    mandatory = tuple(each for each in active if not each.floating or each.expression[1] in used)
    variables = {each.expression[1] for each in mandatory if each.floating}
    pairs = frozenset(pair for pair in disjoint if variables.issuperset(pair))
    return Assertion(label, expression, mandatory, pairs, number, axiom)


def check(claim: Claim, steps: Iterable[Step], assertions: Mapping[str, Assertion], *, budget: int = BUDGET) -> None:
    """Return where the steps prove the claim; the time is linear in the symbols that they push.

    Raises:
        ProofError: naming the step and the reason.
    """
    stack: list[Expression] = []
    saved: list[Expression] = []
    variables = {each.expression[1] for each in claim.scope.values() if each.floating}
    for number, step in enumerate(steps, start=1):
        if isinstance(step, Save):
            if not stack:
                raise ProofError(f"step {number}: nothing is on the stack that could be remembered.", step=number)
            saved.append(stack[-1])
            continue
        if isinstance(step, Recall):
            if not 0 <= step.number < len(saved):
                raise ProofError(f"step {number}: recalls {step.number + 1} of {len(saved)} remembered.", step=number)
            expression = saved[step.number]
        elif step in claim.scope:
            expression = claim.scope[step].expression
        else:
            assertion = _citable(step, number, claim, assertions)
            expression = _applied(assertion, number, stack, claim, variables)
        budget -= len(expression)
        if budget < 0:
            raise ProofError(f"step {number}: the proof pushes too many symbols.", step=number, hint="use a lemma.")
        stack.append(expression)
    if len(stack) != 1:
        raise ProofError(f"{len(stack)} expressions are left on the stack, and a proof leaves one.")
    if stack[0] != claim.assertion.expression:
        raise ProofError(f"it proves '{shown(stack[0])}', not '{shown(claim.assertion.expression)}'.")


def _citable(label: str, number: int, claim: Claim, assertions: Mapping[str, Assertion]) -> Assertion:
    """The assertion of that label, where it stands before the claim."""
    assertion = assertions.get(label)
    if assertion is None:
        raise ProofError(f"step {number}: '{label[:_SHOWN_SYMBOLS]}' is no label that is in force.", step=number)
    if assertion.number >= claim.assertion.number:
        raise ProofError(f"step {number}: '{label}' does not stand before what is to be proved.", step=number)
    return assertion


def _applied(
    assertion: Assertion, number: int, stack: list[Expression], claim: Claim, variables: set[str]
) -> Expression:
    """Take the entries of an assertion's hypotheses off the stack, and return what it states of them."""
    where = f"step {number} ({assertion.label})"
    taken = len(assertion.hypotheses)
    if len(stack) < taken:
        raise ProofError(f"{where}: needs {taken} entries, and {len(stack)} are on the stack.", step=number)
    entries = stack[len(stack) - taken :]
    del stack[len(stack) - taken :]
    values: dict[str, Expression] = {}
    for hypothesis, entry in zip(assertion.hypotheses, entries, strict=True):
        if not hypothesis.floating:
            continue
        kind, variable = hypothesis.expression
        if entry[0] != kind:
            raise ProofError(f"{where}: '{variable}' wants '{kind} ...', got '{shown(entry)}'.", step=number)
        values[variable] = entry[1:]
    for hypothesis, entry in zip(assertion.hypotheses, entries, strict=True):
        if hypothesis.floating:
            continue
        # The length comes first: what is far too long to be the entry is never built.
        if length(hypothesis.expression, values) != len(entry) or substituted(hypothesis.expression, values) != entry:
            raise ProofError(f"{where}: '{shown(entry)}' is no instance of '{hypothesis.label}' here.", step=number)
    _check_disjoint(assertion, values, claim, variables, number)
    return substituted(assertion.expression, values)


def _check_disjoint(
    assertion: Assertion, values: Mapping[str, Expression], claim: Claim, variables: set[str], number: int
) -> None:
    """What replaces distinct variables shares none, and each pair of its variables is in force as distinct."""
    for one, other in sorted(assertion.disjoint):
        for left in sorted(variables.intersection(values[one])):
            for right in sorted(variables.intersection(values[other])):
                if left == right or (min(left, right), max(left, right)) not in claim.disjoint:
                    raise ProofError(
                        f"step {number} ({assertion.label}): '{one}' and '{other}' are distinct, and so '{left}' and "
                        f"'{right}' would have to be.",
                        step=number,
                    )


def length(expression: Expression, values: Mapping[str, Expression]) -> int:
    """How many symbols `substituted` would give."""
    return sum(len(values[symbol]) if symbol in values else 1 for symbol in expression)


def substituted(expression: Expression, values: Mapping[str, Expression]) -> Expression:
    """All variables replaced at once."""
    result: list[str] = []
    for symbol in expression:
        if symbol in values:
            result += values[symbol]
        else:
            result.append(symbol)
    return tuple(result)


def shown(expression: Expression) -> str:
    """An expression as text, cut where it is long."""
    return " ".join(expression[:_SHOWN_SYMBOLS]) + (" ..." if len(expression) > _SHOWN_SYMBOLS else "")
