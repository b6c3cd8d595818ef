"""Statements to be proved, generated, with the length of a shortest proof as their difficulty."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from laurel.errors import TaskError
from laurel.formal import Found, Grammar, ProofError, elaborate, grammar, principal_theorems
from laurel.formal.grammar import Term, Unknown
from laurel.formal.search import covers
from laurel.tasks.task import Task
from laurel.tasks.task_set import TaskSet
from laurel.tasks.template import Template

_PLAIN_PART = 0.6
"""How often an open part of a theorem becomes a variable, and not something compound, at first."""

_VAIN_DRAWS = 200
"""After so many draws in a row that bring nothing new, a theorem is used up."""


def theorems(
    *,
    database: str = "implication",
    count: int = 1000,
    steps: int = 3,
    difficulties: Sequence[int] | None = None,
    longest: int = 15,
    variables: int = 3,
    prompt: str = "{formula}:",
    seed: int = 0,
) -> TaskSet:
    """Cases of everything that few steps prove, for `laurel.rewards.metamath_proof`.

    Condensed proofs are enumerated: all most general theorems of up to `steps` applications of rules. A task is a case
    of one, with variables or short formulas for its open parts. Its `difficulty` is the least number of applications
    of any proof, since any proof of n applications has a most general theorem of n that covers the statement; its
    reference is such a proof, as `metamath_proof(steps="cited")` reads it. All tasks differ, and variables are named in
    the order in which they occur, so that what differs in names only is the same task, and a split cannot part it.

    Args:
        database: "implication", "propositional", or the path of a `.mm` file.
        count: how many tasks. Difficulties are drawn from in turn, and so are the most general theorems of each; one
            whose cases are used up is left out.
        steps: the greatest difficulty.
        difficulties: only these; None: all from 0 to `steps`.
        longest: most symbols of a statement, without the one in front.
        variables: most different variables of a statement.
        prompt: a template over {formula}, the statement without its kind, and without spaces where every symbol is a
            single character; and {statement}, as the database writes it.
        seed: another one draws other cases.

    Raises:
        TaskError: naming the argument, where there are no such statements.
        FormalError: there is no such database.
    """
    wanted = list(range(steps + 1)) if difficulties is None else list(difficulties)
    if steps < 0 or not wanted or not set(wanted) <= set(range(steps + 1)):
        raise TaskError(f"theorems: difficulties {wanted} of {steps} steps.", hint=f"give some from 0 to {steps}.")
    system = grammar(database)
    names = list(system.kinds)
    if not 1 <= variables <= len(names) or count < 1:
        raise TaskError(
            f"theorems: count={count} and variables={variables} fit no statements of {database}.",
            hint=f"at least one task, and 1 to {len(names)} variables.",
        )
    known = principal_theorems(system, steps, longest=4 * longest)
    drawn = _drawn(system, known, wanted, names[:variables], longest, seed)
    template = Template(prompt)
    tasks: list[Task] = []
    for found, term in drawn:
        if len(tasks) == count:
            break
        data = _data(system, term, found)
        where = f"theorems, task {len(tasks)}"
        reference = ("" if system.compact else " ").join(found.proof)
        tasks.append(Task(f"{database}-{seed}-{len(tasks)}", template.fill(data, where), reference, data))
    if len(tasks) < count:
        raise TaskError(
            f"theorems: there are {len(tasks)} such statements, not {count}.",
            hint="lower count, or raise steps, longest or variables.",
        )
    return TaskSet(f"theorems of {database}", tuple(tasks))


def _drawn(
    system: Grammar, known: Sequence[Found], wanted: Sequence[int], names: list[str], longest: int, seed: int
) -> Iterator[tuple[Found, Term]]:
    """Statements with the first theorem that covers each, difficulty after difficulty in turn."""
    generator = random.Random(f"theorems/{seed}")
    left = {level: [found for found in known if found.steps == level] for level in wanted}
    seen: set[Term] = set()
    while any(left.values()):
        for level in wanted:
            while left[level]:
                found = left[level].pop(0)
                term = _new_case(system, generator, found, known, names, longest, seen)
                if term is not None:
                    left[level].append(found)
                    yield found, term
                    break


def _new_case(
    system: Grammar,
    generator: random.Random,
    found: Found,
    known: Sequence[Found],
    names: list[str],
    longest: int,
    seen: set[Term],
) -> Term | None:
    """A case of a theorem that is no case of an earlier one, and is new; None where there seems to be none."""
    for _ in range(_VAIN_DRAWS):
        term = _case(system, generator, found.term, names)
        if len(system.written(term)) > longest or term in seen:
            continue
        first = next(each for each in known if covers(system, each.term, term))
        if first is found and _may_be_cited(system, term, found):
            seen.add(term)
            return term
    return None


def _case(system: Grammar, generator: random.Random, general: Term, names: list[str]) -> Term:
    """A random case, its variables named in order."""
    values: dict[Unknown, Term] = {}
    for part in general:
        if isinstance(part, Unknown) and part not in values:
            values[part] = _formula(system, generator, part.kind, names)
    term = tuple(each for part in general for each in (values[part] if isinstance(part, Unknown) else (part,)))
    renamed: dict[object, str] = {}
    for symbol in term:
        if symbol in names and symbol not in renamed:
            same = [name for name in names if system.kinds[name] == system.kinds[str(symbol)]]
            renamed[symbol] = next(name for name in same if name not in renamed.values())
    return tuple(renamed.get(symbol, symbol) for symbol in term)


def _formula(system: Grammar, generator: random.Random, kind: str, names: list[str]) -> Term:
    """A variable, or a syntax axiom over such formulas; compound ones get rarer with each that they hold."""
    term: list[str] = []
    wanted, plain = [kind], _PLAIN_PART
    while wanted:
        kind = wanted.pop()
        syntax = [label for label, (axiom, parts) in system.syntax.items() if axiom.expression[0] == kind and parts]
        if generator.random() < plain or not syntax:
            term.append(generator.choice([name for name in names if system.kinds[name] == kind]))
            continue
        term.append(generator.choice(syntax))
        plain = 1 - (1 - plain) * (1 - _PLAIN_PART)
        wanted += reversed([each.expression[0] for each in system.syntax[term[-1]][0].hypotheses])
    return tuple(term)


def _may_be_cited(system: Grammar, term: Term, found: Found) -> bool:
    """Whether the proof stands before the statement, where that is a theorem of the database itself."""
    claim = system.database.goal(" ".join(("|-", *system.written(term))))
    if claim.assertion.number == len(system.database.assertions):
        return True
    try:
        elaborate(system, claim, found.proof)
    except ProofError:
        return False
    return True


def _data(system: Grammar, term: Term, found: Found) -> dict[str, str | int]:
    written = system.written(term)
    return {
        "formula": system.text(term),
        "statement": " ".join(("|-", *written)),
        "difficulty": found.steps,
    }
