"""Several rewards as one that keeps its parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from laurel.errors import ConfigurationError
from laurel.rewards.reward import (
    Reward,
    Subject,
    as_result,
    evaluate,
    run_here,
    runs_in_process,
    scores_together,
    subject_of,
)
from laurel.tasks.task import Task
from laurel.tree import Failed, Rollout, Score


@dataclass(frozen=True)
class Weighted:
    """See `weighted`."""

    parts: Mapping[str, tuple[Reward, float]]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ConfigurationError("weighted() needs at least one part.", hint="weighted({'right': (reward, 1.0)}).")
        for name, part in self.parts.items():
            if not isinstance(part, tuple) or len(part) != 2 or not callable(part[0]):
                raise ConfigurationError(f"The part '{name}' is {part!r}.", hint="give a pair (reward, weight).")
            if isinstance(part[1], bool) or not isinstance(part[1], int | float) or not math.isfinite(part[1]):
                raise ConfigurationError(f"The part '{name}' has the weight {part[1]!r}.", hint="give a finite number.")
            subject_of(part[0])

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """The parts without their weights."""
        return tuple(reward for reward, _ in self.parts.values())

    @property
    def runs_in_process(self) -> bool:
        """Whether all parts do."""
        return all(map(runs_in_process, self.rewards))

    async def __call__(self, task: Task, rollout: Rollout) -> Score | Failed:
        return await self.combine(task, Subject(rollout.text, rollout))

    async def combine(self, task: Task, subject: Subject) -> Score | Failed:
        """The weighted sum; the parts of a part are named 'part/its part'. After one that failed none is asked."""
        said: list[Score | Failed] = []
        for reward in self.rewards:
            said.append(await evaluate(reward, task, subject))
            if isinstance(said[-1], Failed):
                break
        return self._sum(said)

    def score_rollouts(self, asked: Sequence[tuple[Task, Rollout]]) -> list[Score | Failed]:
        """`combine` for rollouts in this process; a part that scores many together is asked once about all of them."""
        columns: list[list[Score | Failed]] = []
        for reward in self.rewards:
            together = scores_together(reward)
            if together is not None:
                columns.append([as_result(value) for value in together(asked)])
            else:
                subjects = ((task, Subject(rollout.text, rollout)) for task, rollout in asked)
                columns.append([run_here(evaluate(reward, task, subject)) for task, subject in subjects])
        return [self._sum(said) for said in zip(*columns, strict=True)]

    def _sum(self, said: Sequence[Score | Failed]) -> Score | Failed:
        """Of what each part said, in their order, up to the first that failed."""
        total, parts = 0.0, dict[str, float]()
        for (name, (_, weight)), result in zip(self.parts.items(), said, strict=False):
            if isinstance(result, Failed):
                return result if result.left_out else Failed(f"{name}: {result.reason}")
            total += weight * result.value
            parts[name] = result.value
            parts.update({f"{name}/{inner}": value for inner, value in result.parts.items()})
        return Score(total, parts)


def weighted(parts: Mapping[str, tuple[Reward, float]]) -> Weighted:
    """sum over parts of weight * reward. The score keeps each part's own value (before its weight) under its name.

        weighted({"right": (numeric_answer(), 1.0), "brief": (brief, 0.2)})

    If one part fails, the whole fails with that part's name and reason: a missing part is not a zero.

    Raises:
        ConfigurationError: for no parts, or one that is not a pair of a reward and a finite weight.
    """
    return Weighted(dict(parts))
