"""What a reward is, how it is called, and what may come back."""

from __future__ import annotations

import inspect
import numbers
import re
import traceback
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from laurel.errors import ConfigurationError, said_by
from laurel.tasks.task import Task
from laurel.tree import Failed, Rollout, Score

Reward = Callable[..., Any]
"""A function of (task, text) or (task, rollout), told apart by the names of its parameters, sync or async. It returns a
finite number (True and False count as 1 and 0), a `Score`, or `Failed` with a reason."""

F = TypeVar("F", bound=Callable[..., Any])

_MAXIMUM_REASON = 500
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")


@dataclass(frozen=True)
class Subject:
    """What is graded: the answer's text, and the whole rollout where the reward asks for it."""

    text: str
    rollout: Rollout | None = None


def subject_of(reward: Reward) -> str:
    """What the reward grades, "text" or "rollout": the name of its parameter beside `task`. Others need defaults.

    Raises:
        ConfigurationError: for any other signature.
    """
    name = name_of(reward)
    try:
        parameters = inspect.signature(reward).parameters
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The reward {name} has no readable signature.", hint="wrap it: def reward(task, text): ..."
        ) from error
    by_name = {parameter.name for parameter in parameters.values() if parameter.kind is not parameter.POSITIONAL_ONLY}
    needed = {
        parameter.name
        for parameter in parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    for second in ("text", "rollout"):
        if {"task", second} <= by_name and needed <= {"task", second}:
            return second
    raise ConfigurationError(
        f"The reward {name} has the parameters ({', '.join(parameters)}), which Laurel does not know how to fill.",
        hint="name them (task, text) for the answer's text, or (task, rollout) for everything; others need defaults.",
    )


def name_of(reward: Reward) -> str:
    """What errors call it."""
    return str(getattr(reward, "__qualname__", type(reward).__name__))


def in_process(reward: F) -> F:
    """Mark a function as safe to run in this process, without a deadline: it is quick, cannot hang and cannot crash.

        @laurel.rewards.in_process
        def short(task, text): return len(text) < 100

    Everything that is not marked is graded in worker processes that are killed at their deadline.
    """
    reward.runs_in_process = True  # type: ignore[attr-defined]
    return reward


def gives_parts(*names: str) -> Callable[[F], F]:
    """Say which parts the scores of a reward have, so that a run which reads another one is refused before it starts.

        @laurel.rewards.gives_parts("right", "polite")
        def reward(task, text): return Score(right + 0.1 * polite, {"right": right, "polite": polite})

    A function that does not say so is asked about one answer where a part is needed.
    """

    def marked(reward: F) -> F:
        reward.parts = names  # type: ignore[attr-defined]
        return reward

    return marked


def runs_in_process(reward: Reward) -> bool:
    """Whether the reward was marked by `in_process` (most built-in verifiers are)."""
    return bool(getattr(reward, "runs_in_process", False))


def needs_worker(reward: Reward) -> bool:
    """Whether the reward, or a part of it, can hang or crash, so that it must never run in this process."""
    parts = getattr(reward, "rewards", None)
    return any(map(needs_worker, parts)) if parts is not None else bool(getattr(reward, "needs_worker", False))


def needs_rollout(reward: Reward) -> bool:
    """Whether the reward, or a part of it, reads more than the answer's text."""
    parts = getattr(reward, "rewards", None)
    return any(map(needs_rollout, parts)) if parts is not None else subject_of(reward) == "rollout"


def needs_siblings(reward: Reward | None) -> bool:
    """Whether the reward, or a part of it, judges an answer by the other answers to its prompt."""
    parts = getattr(reward, "rewards", ())
    return bool(getattr(reward, "needs_siblings", False)) or any(map(needs_siblings, parts))


def reads_labels(reward: Reward | None) -> bool:
    """Whether the reward knows more of right and wrong than the policy: of somebody's own function that is believed."""
    parts = getattr(reward, "rewards", None)
    return any(map(reads_labels, parts)) if parts is not None else bool(getattr(reward, "reads_labels", True))


def has_other_answers(reward: Reward) -> bool:
    """Whether answers can be right that no comparison with the gold one tells, such as another proof or program."""
    parts = getattr(reward, "rewards", ())
    return bool(getattr(reward, "has_other_answers", False)) or any(map(has_other_answers, parts))


def seconds_needed(reward: Reward) -> float:
    """How long the grading of one answer may take by the reward's own deadlines, those of its parts together."""
    parts = getattr(reward, "rewards", ())
    return float(getattr(reward, "longest_seconds", 0.0)) + sum(map(seconds_needed, parts))


def scores_together(reward: Reward | None) -> Callable[[Sequence[tuple[Task, Rollout]]], list[Any]] | None:
    """What scores the rollouts of a step together, where the reward, or a part of it, does so."""
    parts = getattr(reward, "rewards", None)
    one_by_one = parts is not None and all(scores_together(part) is None for part in parts)
    return None if one_by_one else getattr(reward, "score_rollouts", None)


def waits(reward: Reward) -> bool:
    """Whether the reward, or a part of it, is an asynchronous function."""
    parts = getattr(reward, "rewards", None)
    if parts is not None:
        return any(map(waits, parts))
    return inspect.iscoroutinefunction(reward) or inspect.iscoroutinefunction(type(reward).__call__)


async def evaluate(reward: Reward, task: Task, subject: Subject) -> Score | Failed:
    """Call a reward and turn whatever happens into a score or a failure with its reason."""
    try:
        combine = getattr(reward, "combine", None)
        if combine is not None:
            value = await combine(task, subject)
        else:
            second = subject_of(reward)
            value = reward(task=task, **{second: subject.text if second == "text" else subject.rollout})
            if inspect.isawaitable(value):
                value = await value
        return as_result(value)
    except (Exception, SystemExit) as error:
        return Failed(reason_of(error))


def as_result(value: object) -> Score | Failed:
    """A score, from a finite number or a score; anything else is a failure that says what came instead."""
    if isinstance(value, Score):
        wrong = [name for name, part in value.parts.items() if not np.isfinite(part)]
        return Failed(f"the part '{wrong[0]}' of the score is not finite") if wrong else value
    if isinstance(value, Failed):
        return value
    if isinstance(value, numbers.Real | np.bool_):
        number = float(value)
        if np.isfinite(number):
            return Score(number)
        return Failed(f"the reward returned {number}, which is not finite")
    if value is None:
        return Failed("the reward returned None: a branch without a return?")
    if isinstance(value, str):
        return Failed(_shortened(f"the reward returned the text {value[:80]!r}, not a number"))
    return Failed(f"the reward returned {type(value).__name__}, not a number, Score or Failed")


def reason_of(error: BaseException) -> str:
    """One line: the exception and where it was raised. Memory addresses are left out, so that reasons repeat."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    return _shortened(f"{said_by(error)}{place}")


def run_here(coroutine: Coroutine[Any, Any, Score | Failed]) -> Score | Failed:
    """Run a coroutine that never waits, without an event loop: this works inside of a running one (a notebook)."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Score | Failed = stop.value
        return result
    coroutine.close()
    return Failed("the reward waits for something, which it cannot in this process")


def _shortened(reason: str) -> str:
    reason = _ADDRESS.sub("0x…", " ".join(reason.split()))
    return reason if len(reason) <= _MAXIMUM_REASON else reason[: _MAXIMUM_REASON - 1] + "…"
