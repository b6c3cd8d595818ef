"""Labels of steps: how likely what was written so far leads to a right answer.

They stand where `laurel.rewards.step_scores` puts scores: among the parts of a rollout's own score, "step 1", "step 2"
and so on. A step is a policy segment.

    prompt | step a -+- step b <end>  scores 1       continuations x and y of the place after a score 0 and 1
                     +- x             scores 0
                     +- y             scores 1       soft: a (0 + 1) / 2, b 1      hard: a 1, b 1
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from laurel.credit.continuations import Place, is_continuation
from laurel.errors import ConfigurationError, TreeError
from laurel.tree import STEP_PART, Outcome, Rollout, Score, Source, Tree

Estimate = Literal["soft", "hard"]


def labelled_steps(tree: Tree) -> list[tuple[int, float]]:
    """The steps of a tree that have a label, with it: the mean over the scored rollouts that pass them and say one."""
    given: dict[int, list[float]] = {}
    for rollout in tree.rollouts:
        score = rollout.outcome.score if rollout.outcome is not None else None
        if isinstance(score, Score):
            for number, step in enumerate(steps_of(rollout), start=1):
                if f"{STEP_PART}{number}" in score.parts:
                    given.setdefault(step, []).append(score.parts[f"{STEP_PART}{number}"])
    return [(step, float(np.mean(labels))) for step, labels in sorted(given.items())]


def steps_of(rollout: Rollout) -> list[int]:
    """The policy segments on the path of a rollout, in their order."""
    path = rollout.tree.path(rollout.leaf)
    return [index for index in path if rollout.tree.segments[index].source is Source.POLICY]


def step_places(tree: Tree) -> list[Place]:
    """Where continuations say what each step was worth: before the next step of a sample, once each.

    What an environment answers to a step belongs before the place. A rollout that failed has none.
    """
    found: dict[int, None] = {}
    for rollout in tree.rollouts:
        if not is_continuation(rollout.id) and not (rollout.outcome is not None and rollout.outcome.failed):
            found |= dict.fromkeys(tree.segments[step].parent for step in steps_of(rollout)[1:])
    return [Place(segment, len(tree.segments[segment])) for segment in found]


def monte_carlo_labels(tree: Tree, estimate: Estimate = "soft") -> Tree:
    """The samples of a graded tree, each step labelled by the continuations that were drawn where the next one begins.

        soft   the mean of their scores: without bias for the expected score from there on
        hard   1 if one of them scores full marks, 1, else 0

    The last step of a sample is worth what the sample scored. Continuations that failed are left out; a step where all
    of them did has no label. A sample that failed stays as it is.

    Args:
        tree: with continuations of `step_places` (another place says nothing); scores in [0, 1].
        estimate: "soft" or "hard".

    Raises:
        ConfigurationError: for another estimate.
        TreeError: a score is no chance of being right; names the rollout.

    Source: Wang et al. 2024 (Math-Shepherd), arXiv 2312.08935, equations 3 (hard) and 4 (soft).
    """
    if estimate not in get_args(Estimate):
        raise ConfigurationError(f"There is no estimate {estimate!r} of a step.", hint="use soft or hard.")
    worth = {segment: _estimated(scores, estimate) for segment, scores in _continued(tree).items() if scores}
    outcomes: dict[int, Outcome] = {}
    samples = [rollout for rollout in tree.rollouts if not is_continuation(rollout.id)]
    for rollout in samples:
        outcome, steps = rollout.outcome, steps_of(rollout)
        if outcome is None or outcome.failed or not isinstance(outcome.score, Score):
            continue
        parts = {
            f"{STEP_PART}{number}": worth[tree.segments[following].parent]
            for number, following in enumerate(steps[1:], start=1)
            if tree.segments[following].parent in worth
        }
        parts[f"{STEP_PART}{len(steps)}"] = _estimated([_chance(rollout)], estimate)
        outcomes[rollout.leaf] = replace(outcome, score=Score(outcome.score.value, parts))
    labelled, _ = tree.with_outcomes(outcomes).above([rollout.leaf for rollout in samples])
    return labelled


def _continued(tree: Tree) -> dict[int, list[float]]:
    """The scores of the continuations that were drawn at the end of each segment."""
    scores: dict[int, list[float]] = {}
    for rollout in tree.rollouts:
        if not is_continuation(rollout.id) or rollout.outcome is None or rollout.outcome.failed:
            continue
        path = tree.path(rollout.leaf)
        first = next(index for index in path if is_continuation(tree.segments[index].rollout_id))
        scores.setdefault(tree.segments[first].parent, []).append(_chance(rollout))
    return scores


def _chance(rollout: Rollout) -> float:
    """What a rollout scored, which must lie in [0, 1]."""
    if not 0 <= rollout.reward <= 1:
        raise TreeError(
            f"Rollout {rollout.id} earned {rollout.reward:g}: no chance of being right.",
            hint="label steps by a reward from 0 to 1, such as exact_match.",
        )
    return rollout.reward


def _estimated(scores: list[float], estimate: Estimate) -> float:
    return float(np.mean(scores)) if estimate == "soft" else float(max(scores) >= 1)
