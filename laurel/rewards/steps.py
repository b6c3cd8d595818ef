"""Scores of steps: what a process reward model, or a rule, says of every step of a rollout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from laurel.errors import ConfigurationError
from laurel.rewards.reward import as_result, name_of, runs_in_process
from laurel.tasks.task import Task
from laurel.tree import STEP_PART, Failed, Rollout, Score, Source

Aggregation = Literal["min", "product", "last", "mean", "sum"]

StepScorer = Callable[[Task, Sequence[str]], Iterable[Any]]
"""A function of a task and the texts of a rollout's steps; it returns one finite number per step."""


StepAnswer = Callable[[Task, Sequence[str], str], Any]
"""A function of a task, the texts of the steps so far, and the text of the step that is asked about."""


def aggregate(scores: Sequence[float], how: Aggregation) -> float:
    """One number for a rollout from those of its steps, at least one: what best-of-n compares.

        min      the weakest step                            last   what was said when the answer was whole
        product  the chance that all are right, if each is   mean   the average step
                 independent of the others                   sum    for rewards, which add up

    Example: (0.5, 0.8, 0.9) gives 0.5, 0.36, 0.9, 0.7333... and 2.2.

    Source: Lightman et al. 2023, arXiv 2305.20050, appendix F (product and min); Snell et al. 2024, arXiv 2408.03314,
    section 5.1 (last).

    Raises:
        ConfigurationError: for another way.
    """
    check_aggregation(how)
    if how == "min":
        return min(scores)
    if how == "product":
        return math.prod(scores)
    if how == "last":
        return scores[-1]
    return sum(scores) / len(scores) if how == "mean" else sum(scores)


def check_aggregation(how: object) -> None:
    """Whether there is such a way to put steps together; None: they are not.

    Raises:
        ConfigurationError: there is not.
    """
    if how is not None and how not in get_args(Aggregation):
        raise ConfigurationError(
            f"Steps cannot be put together by {how!r}.", hint=f"use one of {', '.join(get_args(Aggregation))}."
        )


@dataclass(frozen=True)
class EachStep:
    """See `each_step`."""

    ask: StepAnswer

    @property
    def runs_in_process(self) -> bool:
        """Whether the function was marked so."""
        return runs_in_process(self.ask)

    def __call__(self, task: Task, steps: Sequence[str]) -> list[Any]:
        return [self.ask(task, tuple(steps[:number]), step) for number, step in enumerate(steps)]


def each_step(ask: StepAnswer) -> EachStep:
    """A step scorer from a judge of one step: a function, or one that runs a program or asks somebody.

        step_scores(each_step(lambda task, before, step: float("therefore" not in step)))

    Args:
        ask: a function of (task, steps before, step).

    Raises:
        ConfigurationError: if it cannot be called.
    """
    if not callable(ask):
        raise ConfigurationError(f"The judge {ask!r} is no function.", hint="give one of (task, before, step).")
    return EachStep(ask)


@dataclass(frozen=True)
class StepScores:
    """See `step_scores`."""

    scorer: StepScorer

    scores_steps: ClassVar[Literal[True]] = True
    pays_steps_alone: ClassVar[Literal[True]] = True

    @property
    def runs_in_process(self) -> bool:
        """Whether the scorer was marked so."""
        return runs_in_process(self.scorer)

    def __call__(self, task: Task, rollout: Rollout) -> Score | Failed:
        steps = [segment.text for segment in rollout.segments if segment.source is Source.POLICY]
        said = list(self.scorer(task, steps))
        if len(said) != len(steps):
            return Failed(
                f"the step scorer {name_of(self.scorer)} returned {len(said)} numbers for an answer of {len(steps)} "
                "steps"
            )
        parts: dict[str, float] = {}
        for number, value in enumerate(map(as_result, said), start=1):
            if isinstance(value, Failed):
                return Failed(f"step {number}: {value.reason}")
            parts[f"{STEP_PART}{number}"] = value.value
        return Score(0.0, parts)


def gives_step_scores(reward: object) -> bool:
    """Whether the parts of a reward's scores are those of steps, and nothing else."""
    return bool(getattr(reward, "scores_steps", False))


def pays_steps_alone(reward: object) -> bool:
    """Whether a reward's scores are 0 themselves, so that only what reads the parts of steps can learn from it."""
    return bool(getattr(reward, "pays_steps_alone", False))


def step_scores(scorer: StepScorer) -> StepScores:
    """One number per step, kept as the parts of a score that is 0 itself: credit reads them, the return does not.

        reward = weighted({"right": (numeric_answer(), 1.0), "steps": (step_scores(model), 0.0)})
        algorithm = step_ppo(separator="\\n")

    A step is a policy segment: a turn, or what `Sampled(step_separator=...)` cuts turns into. Another number of scores
    than steps, or one that is not finite, is a failure of the rollout.

    Args:
        scorer: a plain function of (task, steps); `laurel.rewards.in_process` marks one that is quick and cannot hang.

    Raises:
        ConfigurationError: if the scorer cannot be called.
    """
    if not callable(scorer):
        raise ConfigurationError(f"The step scorer {scorer!r} is no function.", hint="give one of (task, steps).")
    return StepScores(scorer)
