"""Scores of steps: what a process reward model, or a rule, says of every step of a rollout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from laurel.errors import ConfigurationError
from laurel.rewards.reward import as_result, name_of, runs_in_process
from laurel.tasks.task import Task
from laurel.tree import STEP_PART, Failed, Rollout, Score, Source

StepScorer = Callable[[Task, Sequence[str]], Iterable[Any]]
"""A function of a task and the texts of a rollout's steps; it returns one finite number per step."""


@dataclass(frozen=True)
class StepScores:
    """See `step_scores`."""

    scorer: StepScorer

    @property
    def runs_in_process(self) -> bool:
        """Whether the scorer was marked so."""
        return runs_in_process(self.scorer)

    def __call__(self, task: Task, rollout: Rollout) -> Score | Failed:
        steps = [segment.text for segment in rollout.segments if segment.source is Source.POLICY]
        said = list(self.scorer(task, steps))
        if len(said) != len(steps):
            return Failed(
                f"the step scorer {name_of(self.scorer)} returned {len(said)} numbers for the {len(steps)} steps of "
                f"rollout {rollout.id}"
            )
        parts: dict[str, float] = {}
        for number, value in enumerate(map(as_result, said), start=1):
            if isinstance(value, Failed):
                return Failed(f"step {number} of rollout {rollout.id}: {value.reason}")
            parts[f"{STEP_PART}{number}"] = value.value
        return Score(0.0, parts)


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
