"""Parts of a score that an algorithm reads: whether the reward will have them, found out before anything is sampled."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
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
from laurel.rewards.steps import StepScores, gives_step_scores, pays_steps_alone
from laurel.rewards.weighted import Weighted
from laurel.tasks import Task, TaskSet
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree

_BARE = (bare.ExactMatch, bare.FromEnvironment, bare.MathAnswer, bare.NumericAnswer, bare.ReasoningGymAnswer)
"""Rewards whose scores have no parts."""


def check_score_parts(
    algorithm: Algorithm, reward: Reward | None, grading: GradingSettings, environment: Environment | None = None
) -> None:
    """Refuse an algorithm that reads a part of the score which the reward, as far as it says so, does not have; and one
    that reads no part of a reward which gives nothing else.

    Args:
        reward: None: the environment pays.

    Raises:
        ConfigurationError: naming the part.
    """
    budgets = _bounded(algorithm)
    if environment is None and isinstance(reward, bare.FromEnvironment):
        raise ConfigurationError(
            "The reward is what the environment pays, and there is none.", hint="add environment: ..., or a reward."
        )
    if environment is None and not budgets and not _reads_parts(algorithm) and _is_nothing(reward):
        raise ConfigurationError(
            "Every answer would earn 0: the reward gives scores of steps, or parts of weight 0, and "
            f"'{algorithm.name}' reads neither.",
            hint="take step_ppo, or add a reward of whole answers: a part with a weight, the aggregation of a process "
            "reward.",
        )
    process = algorithm.credit.part if isinstance(algorithm.credit, ProcessScores) else None
    if grading.truncated_reward == "zero" and (budgets or process is not None):
        raise ConfigurationError(
            f"grading: truncated_reward 'zero' gives a score without parts, and '{algorithm.name}' reads "
            f"{f'the part {budgets[0]!r}' if budgets else 'the scores of steps'} of every rollout.",
            hint="use 'grade' or 'leave_out'.",
        )
    known = _parts_of(reward)
    for part in budgets:
        if _has(reward, part) is False:
            raise _no_part(part, known or ())
    if process is None or known is None or (process == "" and gives_step_scores(reward)):
        return
    own = reward.parts[process][0] if isinstance(reward, Weighted) and process in reward.parts else None
    no_steps = own is not None and not gives_step_scores(own) and _parts_of(own) == ()
    if process == "" or process.partition("/")[0] not in known or no_steps:
        raise ConfigurationError(
            f"algorithm: credit reads the scores of steps from {_place(process)}, and the reward "
            f"({', '.join(known) or 'without parts'}) does not have them there.",
            hint="grade with step_scores, as the whole reward or as a part of a weighted one (of weight 0 where it is "
            "only read), and give the name of that part to the algorithm: 'part'.",
        )


def try_score_parts(
    algorithm: Algorithm,
    reward: Reward | None,
    tasks: TaskSet,
    environment: Environment | None,
    grading: GradingSettings,
) -> None:
    """Ask for what cannot be known otherwise, once, about one answer: scores of steps, and parts that are bounded.

    A step scorer is asked about an answer of two steps (of one, where turns stay whole). A reward that is somebody's
    own function, and does not say which parts it gives, is asked where a constraint reads one of them; whatever goes
    wrong there is left to the run, which counts failures.

    Raises:
        ConfigurationError: the step scorer failed, or returned another number of scores than steps; or a score has not
            the part that is bounded.
        RewardError: the step scorer failed, and the failure budget forgives none.
    """
    scorer = _step_scorer(algorithm, reward)
    separator = algorithm.source.step_separator if isinstance(algorithm.source, Sampled) else None
    task = next((task for task in tasks if task.reference is not None), tasks.tasks[0])
    answer = task.reference or "0"
    if scorer is not None:
        steps = [answer] if separator is None and environment is None else [f"{answer}{separator or ''}", answer]
        score = _tried(scorer, task, steps, grading)
        if isinstance(score, Failed):
            raise ConfigurationError(
                f"The scorer of steps was tried on task {task.id}, on an answer of {len(steps)} steps: {score.reason}.",
                hint="return one finite number per step, whatever their number.",
            )
    asked = [part for part in _bounded(algorithm) if _has(reward, part) is None]
    if reward is None or environment is not None or not asked:
        return
    score = _tried(reward, task, [answer], replace(grading, failures_in_a_row=2))
    missing = [part for part in asked if isinstance(score, Score) and part not in score.parts]
    if missing:
        raise _no_part(missing[0], sorted(score.parts) if isinstance(score, Score) else ())


def _reads_parts(algorithm: Algorithm) -> bool:
    """Whether credit may read parts of a score; of somebody's own rule nothing is known."""
    own = not type(algorithm.credit).__module__.startswith("laurel.")
    return own or isinstance(algorithm.credit, ProcessScores)


def _is_nothing(reward: Reward | None) -> bool:
    """Whether a reward is 0 for every answer, whatever its parts are."""
    if isinstance(reward, Weighted):
        return all(weight == 0 or _is_nothing(own) for own, weight in reward.parts.values())
    return pays_steps_alone(reward)


def _tried(reward: Reward, task: Task, steps: Sequence[str], grading: GradingSettings) -> Score | Failed | None:
    """What a reward says of an answer that nobody drew."""
    asked = [task.prompt if isinstance(task.prompt, str) else task.id, *steps]
    nothing = np.zeros(1, np.int64)  # only the texts are read
    segments = [
        Segment(Source.POLICY if n else Source.PROMPT, nothing, n - 1, text=text) for n, text in enumerate(asked)
    ]
    outcome = Outcome(Ending.TERMINATED, "tried")
    with Grader(reward, grading) as grader:
        tried = Tree("tried", task.id, tuple(segments)).with_outcomes({len(steps): outcome})
        graded, _ = grader.grade([tried], {task.id: task})
    return cast(Outcome, graded[0].segments[-1].outcome).score


def _bounded(algorithm: Algorithm) -> list[str]:
    return [p.part for p in algorithm.penalties if isinstance(p, Budget) and p.part != ANSWER_TOKENS]


def _no_part(part: str, known: Collection[str]) -> ConfigurationError:
    return ConfigurationError(
        f"algorithm: the constraint bounds '{part}', which is no part of the reward "
        f"({', '.join(known) or 'it has none'}).",
        hint="add it to a weighted reward, with weight 0 if it is only bounded, or to the parts of the Score that the "
        "reward returns.",
    )


def _step_scorer(algorithm: Algorithm, reward: Reward | None) -> StepScores | None:
    if not isinstance(algorithm.credit, ProcessScores) or algorithm.credit.part is None:
        return None
    found: object = reward
    if algorithm.credit.part and isinstance(reward, Weighted):
        found = reward.parts.get(algorithm.credit.part, (None, 0.0))[0]
    return found if isinstance(found, StepScores) else None


def _parts_of(reward: Reward | None) -> Collection[str] | None:
    """The names of a reward's parts; None: it is somebody's own function, which does not say."""
    if isinstance(reward, Weighted):
        return list(reward.parts)
    if reward is None or isinstance(reward, _BARE) or gives_step_scores(reward):
        return ()
    said = getattr(reward, "parts", None)
    return said if isinstance(said, tuple) else None


def _has(reward: Reward | None, part: str) -> bool | None:
    """Whether scores have the part; None: the reward does not say."""
    known = _parts_of(reward)
    if isinstance(reward, Weighted):
        name, _, inner = part.partition("/")
        own = reward.parts.get(name)
        return own is not None and (not inner or _has(own[0], inner))
    return None if known is None else part in known


def _place(part: str) -> str:
    return f"the part '{part}'" if part else "the reward as a whole"
