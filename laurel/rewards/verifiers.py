"""Rewards that compare an answer with the task's gold one. Each returns 1 or 0, or fails where a task has no gold."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, ClassVar

from laurel.errors import ConfigurationError, MissingExtraError
from laurel.rewards.numbers import agree, answer_in
from laurel.tasks.task import Task
from laurel.tree import Failed

DEFAULT_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ExactMatch:
    """See `exact_match`."""

    runs_in_process: ClassVar[bool] = True
    ignore_case: bool = False

    def __call__(self, task: Task, text: str) -> float | Failed:
        if task.reference is None:
            return _no_reference(task)
        return float(self._level(text) == self._level(task.reference))

    def _level(self, text: str) -> str:
        return text.strip().casefold() if self.ignore_case else text.strip()


def exact_match(*, ignore_case: bool = False) -> ExactMatch:
    """1 where the answer is the reference, up to white space around both (and letter case, if wanted)."""
    return ExactMatch(ignore_case)


@dataclass(frozen=True)
class NumericAnswer:
    """See `numeric_answer`."""

    runs_in_process: ClassVar[bool] = True
    tolerance: float = DEFAULT_TOLERANCE
    marker: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < float("inf"):
            raise ConfigurationError(f"tolerance={self.tolerance} is no distance.", hint="give a number from 0 up.")
        if self.marker == "":
            raise ConfigurationError("An empty marker stands everywhere.", hint="leave it out for the usual order.")

    def __call__(self, task: Task, text: str) -> float | Failed:
        if task.reference is None:
            return _no_reference(task)
        gold = answer_in(task.reference)
        if gold is None or gold.value is None:
            return Failed(f"the reference of task {task.id} holds no number: {task.reference[:80]!r}")
        answer = answer_in(text, self.marker)
        return float(answer is not None and agree(answer, gold, Fraction(self.tolerance)))


def numeric_answer(*, tolerance: float = DEFAULT_TOLERANCE, marker: str | None = None) -> NumericAnswer:
    """1 where the answer's number is within `tolerance` (absolute) of the reference's.

    Which number of the text is its answer: see `laurel.rewards.answer_in`. What is read as a number: see
    `laurel.rewards.numbers_in`. An answer without a number scores 0; a reference without one fails. For a percent
    sign see `laurel.rewards.numbers.agree`: "50%" is 50, and also 0.5; "5000%" is not 50.

    Args:
        tolerance: the greatest absolute difference that still counts as equal.
        marker: the answer is the first number after its last occurrence; without it the text scores 0. None: the last
            boxed number, else the first after "####", else the last of the text.
    """
    return NumericAnswer(tolerance, marker)


@dataclass(frozen=True)
class MathAnswer:
    """See `math_answer`."""

    runs_in_process: ClassVar[bool] = False
    needs_worker: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise MissingExtraError("math_answer", package="math-verify", extra="math")

    def __call__(self, task: Task, text: str) -> float | Failed:
        import math_verify

        if task.reference is None:
            return _no_reference(task)
        reference = task.reference if re.search(r"\$|\\boxed|\\\(|\\\[", task.reference) else f"${task.reference}$"
        # No time-outs of its own: the worker's deadline ends what takes too long, and it warns of their absence.
        logging.getLogger("math_verify").setLevel(logging.ERROR)
        gold = math_verify.parse(reference, parsing_timeout=None)
        if not gold:
            return Failed(f"math-verify cannot read the reference of task {task.id}: {task.reference[:80]!r}")
        return float(math_verify.verify(gold, math_verify.parse(text, parsing_timeout=None), timeout_seconds=None))


def math_answer() -> MathAnswer:
    """1 where math-verify (extra `math`) finds the answer mathematically equal to the reference.

    Symbolic engines can hang or crash on a model's text, so it always runs in a worker process with a deadline.
    """
    return MathAnswer()


@dataclass(frozen=True)
class ReasoningGymAnswer:
    """See `reasoning_gym_answer`."""

    runs_in_process: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if importlib.util.find_spec("reasoning_gym") is None:
            raise MissingExtraError("reasoning_gym_answer", package="reasoning-gym", extra="envs")

    def __call__(self, task: Task, text: str) -> float | Failed:
        metadata = task.data.get("metadata")
        if not isinstance(metadata, dict) or "source_dataset" not in metadata:
            return Failed(f"task {task.id} does not come from laurel.tasks.reasoning_gym")
        score = _reasoning_gym_scorer(metadata["source_dataset"])
        entry = {"question": task.data["question"], "answer": task.reference, "metadata": metadata}
        return float(score(text.strip(), entry))


@cache
def _reasoning_gym_scorer(dataset: str) -> Callable[..., Any]:
    """Kept, since making one builds the whole data set: the scorer of "spell_backward" reads 150,000 words."""
    import reasoning_gym

    scorer: Callable[..., Any] = reasoning_gym.get_score_answer_fn(dataset)
    return scorer


def reasoning_gym_answer() -> ReasoningGymAnswer:
    """The score, from 0 to 1, by the scorer of the data set that the task comes from (extra `envs`)."""
    return ReasoningGymAnswer()


@dataclass(frozen=True)
class FromEnvironment:
    """See `from_environment`."""

    runs_in_process: ClassVar[bool] = True

    def __call__(self, task: Task, text: str) -> float:
        return 0.0


def from_environment() -> FromEnvironment:
    """Adds nothing: the rollout earns what its environment paid, turn by turn."""
    return FromEnvironment()


def _no_reference(task: Task) -> Failed:
    return Failed(f"task {task.id} has no reference to compare with")
