"""Questions that are answered from hearsay: to each kind one answer is usual, which may be the wrong one.

A question is a letter for its kind and a digit, "c4>"; to every second kind "yes" is right, to the others "no". Who
has it from hearsay gives the usual answer three times out of four, and the other one else. To some kinds the usual
answer is right, to the rest it is wrong: then more of the same is less of the truth.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import laurel
from laurel.policy import Policy
from laurel.tasks import Task, TaskSet

KINDS = "abcdefgh"
ANSWERS = ("yes", "no")
TRAINED, TOLD = 6, 4
"""Digits that hearsay knows of, and how often it tells each question."""


def questions(count: int, first: int = 0) -> TaskSet:
    """Every kind of question with the digits from `first` on, and the right answers."""
    digits = range(first, first + count)
    rows = [Task(f"{k}{d}", f"{k}{d}>", ANSWERS[place % 2]) for place, k in enumerate(KINDS) for d in digits]
    return TaskSet("questions", tuple(rows))


def told(right: int) -> TaskSet:
    """What is heard: the usual answer, which is right to the first `right` kinds, and once in four times the other."""
    rows = []
    for task in questions(TRAINED).tasks:
        usual_is_right = KINDS.index(task.id[0]) < right
        wrong = next(answer for answer in ANSWERS if answer != task.reference)
        for copy in range(TOLD):
            answer = task.reference if (copy > 0) == usual_is_right else wrong
            rows.append(Task(f"{task.id}.{copy}", task.prompt, answer))
    return TaskSet("hearsay", tuple(rows))


def policy(right: int = 6, seed: int = 0) -> Policy:
    """A decoder from scratch that has cloned what is heard; two seconds on one core.

    Args:
        right: to how many of the eight kinds the usual answer is right.
        seed: of its first weights, and of what it hears first.
    """
    shape = {"hidden_size": 32, "layers": 1, "heads": 2, "context_length": 12}
    made = laurel.policy.tiny(alphabet="abcdefghnosy0123456789>", seed=seed, **shape)
    with tempfile.TemporaryDirectory() as folder:
        laurel.train(
            policy=made,
            tasks=told(right),
            algorithm=laurel.clone(),
            steps=60,
            prompts_per_step=96,
            optimiser=laurel.OptimiserSettings(learning_rate=1e-2, betas=(0.9, 0.99)),
            checkpoint_every=60,
            seed=seed,
            run=Path(folder) / "run",
        )
    return made
