"""Parts of a score that an algorithm reads: whether the reward will have them, found out before anything is sampled."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

import numpy as np

from laurel.algorithms import Algorithm, Sampled
from laurel.credit import ProcessScores
from laurel.environments import Environment
from laurel.errors import ConfigurationError
from laurel.objectives import Budget
from laurel.objectives.penalties import ANSWER_TOKENS
from laurel.rewards import Grader, GradingSettings, Reward
from laurel.rewards import verifiers as bare
from laurel.rewards.steps import StepScores
from laurel.rewards.weighted import Weighted
from laurel.tasks import TaskSet
from laurel.tree import Ending, Failed, Outcome, Segment, Source, Tree

_BARE = (bare.ExactMatch, bare.FromEnvironment, bare.MathAnswer, bare.NumericAnswer, bare.ReasoningGymAnswer)
"""Rewards whose scores have no parts."""


def check_score_parts(algorithm: Algorithm, reward: Reward | None, grading: GradingSettings) -> None:
    """Refuse an algorithm that reads a part of the score which the reward, as far as it says so, does not have.

    Args:
        reward: None: the environment pays.

    Raises:
        ConfigurationError: naming the part.
    """
    budgets = [p.part for p in algorithm.penalties if isinstance(p, Budget) and p.part != ANSWER_TOKENS]
    process = algorithm.credit.part if isinstance(algorithm.credit, ProcessScores) else None
    if grading.truncated_reward == "zero" and (budgets or process is not None):
        raise ConfigurationError(
            f"grading: truncated_reward 'zero' gives a score without parts, and '{algorithm.name}' reads "
            f"{f'the part {budgets[0]!r}' if budgets else 'the scores of steps'} of every rollout.",
            hint="use 'grade' or 'leave_out'.",
        )
    known = _parts_of(reward)
    for part in budgets:
        if known is not None and part.partition("/")[0] not in known:
            raise ConfigurationError(
                f"algorithm: the constraint bounds '{part}', which is no part of the reward "
                f"({', '.join(known) or 'it has none'}).",
                hint="add it to a weighted reward, with weight 0 if it is only bounded.",
            )
    if process is None or known is None or (process == "" and isinstance(reward, StepScores)):
        return
    if process == "" or process.partition("/")[0] not in known:
        raise ConfigurationError(
            f"algorithm: credit reads the scores of steps from {_place(process)}, and the reward "
            f"({', '.join(known) or 'without parts'}) does not have them there.",
            hint="grade with step_scores, as the whole reward or as a part of a weighted one (of weight 0 where it is "
            "only read), and give the name of that part to the algorithm: 'part'.",
        )


def try_step_scores(
    algorithm: Algorithm,
    reward: Reward | None,
    tasks: TaskSet,
    environment: Environment | None,
    grading: GradingSettings,
) -> None:
    """Ask the step scorer that credit reads about one answer of two steps (of one, where turns stay whole).

    Raises:
        ConfigurationError: it failed, or returned another number of scores than steps.
        RewardError: it failed, and the failure budget forgives none.
    """
    scorer = _step_scorer(algorithm, reward)
    if scorer is None:
        return
    separator = algorithm.source.step_separator if isinstance(algorithm.source, Sampled) else None
    task = next((task for task in tasks if task.reference is not None), tasks.tasks[0])
    answer = task.reference or "0"
    steps = [answer] if separator is None and environment is None else [f"{answer}{separator or ''}", answer]
    asked = [task.prompt if isinstance(task.prompt, str) else task.id, *steps]
    nothing = np.zeros(1, np.int64)  # a scorer reads texts
    segments = [
        Segment(Source.POLICY if n else Source.PROMPT, nothing, n - 1, text=text) for n, text in enumerate(asked)
    ]
    outcome = Outcome(Ending.TERMINATED, "tried")
    with Grader(scorer, grading) as grader:
        tried = Tree("tried", task.id, tuple(segments)).with_outcomes({len(steps): outcome})
        graded, _ = grader.grade([tried], {task.id: task})
    score = cast(Outcome, graded[0].segments[-1].outcome).score
    if isinstance(score, Failed):
        raise ConfigurationError(
            f"The scorer of steps was tried on task {task.id}, on an answer of {len(steps)} steps: {score.reason}.",
            hint="return one finite number per step, whatever their number.",
        )


def _step_scorer(algorithm: Algorithm, reward: Reward | None) -> StepScores | None:
    if not isinstance(algorithm.credit, ProcessScores) or algorithm.credit.part is None:
        return None
    found: object = reward
    if algorithm.credit.part and isinstance(reward, Weighted):
        found = reward.parts.get(algorithm.credit.part, (None, 0.0))[0]
    return found if isinstance(found, StepScores) else None


def _parts_of(reward: Reward | None) -> Collection[str] | None:
    """The names of a reward's parts; None: it is somebody's own function, which may give any."""
    if isinstance(reward, Weighted):
        return list(reward.parts)
    return () if reward is None or isinstance(reward, (*_BARE, StepScores)) else None


def _place(part: str) -> str:
    return f"the part '{part}'" if part else "the reward as a whole"
