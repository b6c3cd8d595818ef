"""Do the texts of a set fit in what a policy reads? Every task is tokenised, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from laurel.errors import PolicyError, TaskError
from laurel.experience import no_reference
from laurel.judged import judged
from laurel.policy import Policy
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


def check_answers(policy: Policy, tasks: TaskSet) -> None:
    """Every task brings judged answers that fit in the policy's context.

    Raises:
        TaskError: naming the tasks.
    """
    _check_lengths(policy, tasks, judged_lengths(policy, tasks), "preference")


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
