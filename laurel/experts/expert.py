"""What an expert is: it gets a task and the dialogue so far, and says what it would answer.

A function is enough, which also covers a person at a keyboard:

    def expert(task, dialogue):
        # dialogue: ("guess 1-9:", "5", "lower:"), the prompt first, then turns and what was answered to them
        return "3"

    laurel.train(algorithm=laurel.dagger(queries=2000), expert=expert, ...)

A function has `limits.environment_timeout_seconds` for an answer, and is asked several questions at a time, from
several threads, unless it has the attribute `runs_in_process = True`. What can hang for good belongs into a program
(`laurel.experts.Program`), which is killed at its deadline: a thread cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from laurel.tasks.task import Task
from laurel.tree import IntArray

ExpertFunction = Callable[[Task, tuple[str, ...]], str]
"""(task, dialogue) to the answer; see `Question.dialogue`."""


@dataclass(frozen=True, eq=False)
class Question:
    """What would you answer here?

    Attributes:
        rollout: in which rollout it came up, for messages.
        task: what is to be done.
        dialogue: the prompt, the first turn, what the environment answered, ..., its last answer: the texts, of odd
            number.
        tokens: [L] the same as the policy's tokens.
    """

    rollout: str
    task: Task
    dialogue: tuple[str, ...]
    tokens: IntArray


@dataclass(frozen=True, eq=False)
class Replied:
    """An expert's answer: its text, and its tokens where the expert writes those of the policy, end token included."""

    text: str
    tokens: IntArray | None = None


@dataclass(frozen=True)
class NoReply:
    """Why a question has no answer."""

    reason: str


@dataclass(frozen=True)
class AnotherPolicy:
    """A policy as expert, with the same tokenizer, by its hub name or directory.

    Attributes:
        policy: the name or directory.
        greedy: whether it answers with its likeliest token everywhere, rather than with a draw.
    """

    policy: str | Path
    greedy: bool = True


@runtime_checkable
class Expert(Protocol):
    """Answers questions, many at once. What it says may depend on the task and the dialogue alone."""

    def replies(self, questions: Sequence[Question]) -> list[Replied | NoReply]:
        """One reply per question, in order. A failure is a `NoReply` and no exception: the others stay answered."""
        ...
