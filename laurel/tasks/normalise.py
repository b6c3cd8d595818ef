"""When two prompts count as the same, and the check that no prompt stands on both sides of a split."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from laurel.errors import TaskError
from laurel.tasks.task import Prompt, Task

_NAMED_LEAKS = 5


def normalised(prompt: Prompt) -> str:
    """A prompt up to what does not change its question.

    Unicode compatibility forms, letter case and white space are levelled. Punctuation stays, since 2+3 is not 2-3. Of
    a conversation all but the system messages count, so that a reworded system message hides no leak.
    """
    if not isinstance(prompt, str):
        prompt = "\n".join(message["content"] for message in prompt if message["role"] != "system")
    return " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())


def leaks(train: Iterable[Task], held_out: Iterable[Task]) -> list[tuple[Task, Task]]:
    """Pairs (trained, held out) with the same normalised prompt: each held-out task with its first twin in `train`."""
    trained: dict[str, Task] = {}
    for task in train:
        trained.setdefault(normalised(task.prompt), task)
    twins = ((trained.get(normalised(task.prompt)), task) for task in held_out)
    return [(twin, task) for twin, task in twins if twin is not None]


def check_leak(train: Iterable[Task], held_out: Iterable[Task]) -> None:
    """Refuse a held-out set that shares prompts with the training set.

    Raises:
        TaskError: naming the tasks of the first few pairs.
    """
    found = leaks(train, held_out)
    if not found:
        return
    named = ", ".join(f"{twin.id} = {task.id}" for twin, task in found[:_NAMED_LEAKS])
    more = f" and {len(found) - _NAMED_LEAKS} more" if len(found) > _NAMED_LEAKS else ""
    raise TaskError(
        f"{len(found)} held-out prompts are trained on too (trained = held out): {named}{more}.",
        hint="remove them from one side, or split one set with TaskSet.split, which keeps equal prompts together.",
    )
