"""Proofs in which only what is provable is cited: what is substituted follows by unification. Nothing here is trusted.

A whole Metamath proof also spells how every expression is built ("wp wq wi"), which is most of its length. Here
"2 1 D 1 D" is the proof of |- C p p, as in condensed detachment; it becomes the whole proof, which the kernel checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from laurel.formal.grammar import Grammar, Rule, Term, Unknown
from laurel.formal.kernel import ProofError, shown
from laurel.formal.statements import Claim, Hypothesis
from laurel.formal.unify import Unifier

MOST_STEPS = 1000
MOST_LABELS = 100_000
"""Of the whole proof."""


@dataclass(frozen=True)
class _Step:
    """A step with the steps of its hypotheses, and what its variables became."""

    label: str
    rule: Rule | None
    values: dict[str, Unknown]
    before: tuple[_Step, ...]


def elaborate(grammar: Grammar, claim: Claim, labels: Sequence[str]) -> list[str]:
    """The whole proof of a claim, from the labels of what is cited, each after the proofs of its hypotheses.

    Raises:
        ProofError: naming the step that is impossible, and why.
    """
    if not labels or len(labels) > MOST_STEPS:
        raise ProofError(f"a proof has 1 to {MOST_STEPS} steps, and this one {len(labels)}.", hint="use lemmas.")
    unifier, kinds = Unifier(grammar), grammar.kinds_in(claim)
    stack: list[tuple[Term, _Step]] = []
    for number, label in enumerate(labels, start=1):
        found = cited(grammar, claim, label, f"step {number}: ")
        if isinstance(found, Hypothesis):
            stack.append((grammar.term(found.expression, kinds), _Step(label, None, {}, ())))
            continue
        values, hypotheses, conclusion = unifier.instance(found)
        wanted = len(hypotheses)
        if len(stack) < wanted:
            raise ProofError(f"step {number} ({label}): needs {wanted} statements, and there are {len(stack)}.")
        taken = stack[len(stack) - wanted :]
        del stack[len(stack) - wanted :]
        for hypothesis, (term, _) in zip(hypotheses, taken, strict=True):
            if not unifier.unify(hypothesis, term, kinds):
                read = shown(grammar.written(unifier.resolved(term)))
                wants = shown(grammar.written(unifier.resolved(hypothesis)))
                raise ProofError(f"step {number} ({label}): '{read}' does not fit '{wants}'.", step=number)
        stack.append((conclusion, _Step(label, found, values, tuple(step for _, step in taken))))
    if len(stack) != 1:
        raise ProofError(f"{len(stack)} statements are left, and a proof leaves one.")
    proved, last = stack[0]
    goal = grammar.goal(claim)
    if not unifier.unify(proved, goal, kinds):
        read = shown(grammar.written(unifier.resolved(proved)))
        raise ProofError(f"it proves '{read}', and '{shown(grammar.written(goal))}' is no case of it.")
    return _spelled(grammar, claim, unifier, last)


def cited(grammar: Grammar, claim: Claim, label: str, where: str = "") -> Rule | Hypothesis:
    """What a step may cite: an essential hypothesis of the claim, or a rule that stands before it.

    Raises:
        ProofError: there is no such thing.
    """
    hypothesis = claim.scope.get(label)
    if hypothesis is not None and not hypothesis.floating:
        return hypothesis
    rule = grammar.rules.get(label)
    if rule is None:
        raise ProofError(f"{where}'{label[:40]}' is no label of something provable.")
    if rule.assertion.number >= claim.assertion.number:
        raise ProofError(f"{where}'{label}' does not stand before what is to be proved.")
    return rule


def _spelled(grammar: Grammar, claim: Claim, unifier: Unifier, last: _Step) -> list[str]:
    """The labels of the whole proof. What is still open may be anything, so it becomes a variable."""
    labels = {each.expression[1]: each.label for each in claim.scope.values() if each.floating}
    any_of_kind: dict[str, str] = {}
    for variable, kind in grammar.kinds_in(claim).items():
        any_of_kind.setdefault(kind, variable)
    proof: list[str] = []
    stack: list[_Step | str] = [last]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            proof.append(item)
            continue
        if item.rule is None:
            proof.append(item.label)
            continue
        parts: list[_Step | str] = []
        before = iter(item.before)
        for hypothesis in item.rule.assertion.hypotheses:
            if hypothesis.floating:
                value = unifier.resolved((item.values[hypothesis.expression[1]],))
                closed = tuple(any_of_kind[each.kind] if isinstance(each, Unknown) else each for each in value)
                parts += grammar.formation(closed, labels)
            else:
                parts.append(next(before))
        stack += [item.label, *reversed(parts)]
        if len(stack) + len(proof) > MOST_LABELS:
            raise ProofError(f"the whole proof has more than {MOST_LABELS:,} labels.", hint="use lemmas.")
    return proof
