"""Do the texts of a set fit in what a policy reads? Every task is tokenised, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from laurel.errors import PolicyError, TaskError
from laurel.experience import no_reference
from laurel.judged import judged
from laurel.judged_steps import check_steps
from laurel.policy import Policy
from laurel.preferences import BadRow, Fault, PreferenceSet
from laurel.tasks import Task, TaskSet

TASKS_PER_CHUNK = 1024
NAMED_TASKS = 5


def check_prompts(policy: Policy, tasks: TaskSet, room: int) -> None:
    """Every prompt has tokens, and fewer than `room`, the most on one path.

    Raises:
        TaskError: naming the tasks.
    """
    lengths = prompt_lengths(policy, tasks)
    long = [(task, length) for task, length in zip(tasks, lengths, strict=True) if length >= room]
    if long:
        larger = "take a model with a longer context" if room == policy.context_length else "raise max_path_tokens"
        raise TaskError(
            f"{_named(tasks, long, 'prompt')} for a path of at most {room} tokens, in which an answer needs room too.",
            hint=f"shorten or leave out these rows, or {larger}.",
        )


def prompt_lengths(policy: Policy, tasks: TaskSet) -> list[int]:
    """Tokens of every prompt.

    Raises:
        TaskError: naming the task whose prompt cannot be encoded.
    """
    return _lengths(tasks, lambda some: policy.prompt_lengths([task.prompt for task in some]))


def check_demonstrations(policy: Policy, tasks: TaskSet) -> None:
    """Every task has a reference answer that fits in the policy's context.

    Raises:
        TaskError: naming the tasks.
    """
    missing = next((task for task in tasks if task.reference is None), None)
    if missing is not None:
        raise no_reference(missing, tasks.name)

    def lengths_of(some: Sequence[Task]) -> list[int]:
        prompts = policy.prompt_lengths([task.prompt for task in some])
        answers = policy.answer_lengths([task.reference or "" for task in some])
        return [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]

    _check_lengths(policy, tasks, _lengths(tasks, lengths_of), "demonstration")


def usable_answers(policy: Policy, tasks: TaskSet) -> TaskSet:
    """The tasks whose judged answers fit in the policy's context, and show it where their labelled steps end.

    The other rows of a set of preferences are left out and counted, as its source does with rows that nobody can use.

    Raises:
        TaskError: naming the tasks, where their rows cannot be left out: the set is strict, or no set of preferences,
            or there would be nothing left.
    """
    lengths = judged_lengths(policy, tasks)
    if not isinstance(tasks, PreferenceSet):
        _check_lengths(policy, tasks, lengths, "preference")
        check_steps(policy, tasks)
        return tasks
    faults: dict[int, BadRow] = {}
    for place, (task, length) in enumerate(zip(tasks, lengths, strict=True)):
        if length > policy.context_length:
            message = f"Task {task.id}: prompt and answer have {length} tokens; the policy's context holds "
            hint = "shorten or leave out this row, or take a model with a longer context."
            faults[place] = BadRow(Fault.TOO_LONG, f"{message}{policy.context_length}.", hint=hint)
            continue
        try:
            check_steps(policy, [task])
        except TaskError as error:
            faults[place] = BadRow(Fault.STEPS, error.message, hint=error.hint)
    return tasks.without(faults)


def newly_left_out(before: Mapping[str, Any], after: Mapping[str, TaskSet | None]) -> list[str]:
    """One line for each set of preferences by name of which rows are left out that were not before."""
    changed = {name: tasks for name, tasks in after.items() if tasks is not before[name]}
    return [
        f"{name}: {tasks.left_out.since(before[name].left_out)}"
        for name, tasks in changed.items()
        if isinstance(tasks, PreferenceSet)
    ]


def judged_lengths(policy: Policy, tasks: TaskSet) -> list[int]:
    """Tokens of every prompt with the longest of its judged answers.

    Raises:
        TaskError: naming a task that brings none, or one that cannot be encoded.
    """

    def lengths_of(some: Sequence[Task]) -> list[int]:
        prompts = policy.prompt_lengths([task.prompt for task in some])
        answers = [max(policy.answer_lengths(judged(task).answers)) for task in some]
        return [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]

    return _lengths(tasks, lengths_of)


def _check_lengths(policy: Policy, tasks: TaskSet, lengths: Sequence[int], noun: str) -> None:
    room = policy.context_length
    long = [(task, length) for task, length in zip(tasks, lengths, strict=True) if length > room]
    if long:
        raise TaskError(
            f"{_named(tasks, long, noun)} for the policy's context of {room} tokens.",
            hint="shorten or leave out these rows, or take a model with a longer context.",
        )


def _lengths(tasks: TaskSet, lengths_of: Callable[[Sequence[Task]], list[int]]) -> list[int]:
    lengths: list[int] = []
    for start in range(0, len(tasks), TASKS_PER_CHUNK):
        chunk = tasks.tasks[start : start + TASKS_PER_CHUNK]
        try:
            lengths += lengths_of(chunk)
        except PolicyError:
            lengths += [_length(tasks, task, lengths_of) for task in chunk]
    return lengths


def _length(tasks: TaskSet, task: Task, lengths_of: Callable[[Sequence[Task]], list[int]]) -> int:
    try:
        return lengths_of([task])[0]
    except PolicyError as error:
        raise TaskError(f"Task {task.id} of '{tasks.name}': {error.message}", hint=error.hint) from error


def _named(tasks: TaskSet, long: Sequence[tuple[Task, int]], noun: str) -> str:
    shown = ", ".join(f"{task.id} ({length} tokens)" for task, length in long[:NAMED_TASKS])
    more = f" and {len(long) - NAMED_TASKS} more" if len(long) > NAMED_TASKS else ""
    are = f"{noun} is" if len(long) == 1 else f"{noun}s are"
    return f"{len(long)} {are} too long in '{tasks.name}': {shown}{more},"
