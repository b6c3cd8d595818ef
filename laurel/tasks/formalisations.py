"""Statements in controlled English that want to be formalised."""

from __future__ import annotations

import random
from dataclasses import replace

from laurel.formal import grammar, in_english
from laurel.tasks.task import Task
from laurel.tasks.task_set import TaskSet
from laurel.tasks.template import Template
from laurel.tasks.theorems import theorems


def formalisations(
    *,
    database: str = "propositional",
    count: int = 1000,
    steps: int = 2,
    longest: int = 11,
    variables: int = 3,
    prompt: str = "{informal}:",
    seed: int = 0,
) -> TaskSet:
    """Provable statements in words, for `laurel.rewards.formal_statement`; the reference is the formal statement.

        if p then (q implies p):        CpCqp

    They are those of `laurel.tasks.theorems` with the same settings, so what a formaliser writes can go to a prover.
    Each statement comes once, in one of many wordings, so no split leaves the same statement on both sides.

    Args:
        database: one whose statements consist of "wi" (if, then) and "wn" (not).
        count, steps, longest, variables, seed: see `laurel.tasks.theorems`.
        prompt: a template over {informal}.

    Raises:
        TaskError: see `laurel.tasks.theorems`.
        FormalError: the database has statements that English has no words for.
    """
    system, template = grammar(database), Template(prompt)
    proofs = theorems(database=database, count=count, steps=steps, longest=longest, variables=variables, seed=seed)
    generator = random.Random(f"formalisations/{seed}")
    tasks: list[Task] = []
    for task in proofs:
        term = system.term(tuple(str(task.data["statement"]).split()))
        data = {**task.data, "informal": in_english(system, term, generator.randrange)}
        text = template.fill(data, f"formalisations, task {len(tasks)}")
        tasks.append(replace(task, prompt=text, reference=system.text(term), data=data))
    return TaskSet(f"formalisations for {database}", tuple(tasks))
