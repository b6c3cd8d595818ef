"""Scores of steps that are known exactly: what a perfect process reward model would say in an enumerable world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np

from laurel.credit import Place, cut
from laurel.theory.states import token_values
from laurel.theory.world import History
from laurel.tree import STEP_PART, Outcome, Score, Source, Tree


def one_step_per_token(tree: Tree) -> Tree:
    """The same tree with every policy token as a segment of its own."""
    places = [
        Place(index, at)
        for index, segment in enumerate(tree.segments)
        if segment.source is Source.POLICY
        for at in range(1, len(segment))
    ]
    return cut(tree, places)[0]


def with_step_values(tree: Tree, values: Mapping[History, float], part: str = "", beyond: float = 0.0) -> Tree:
    """The tree with a score for each step: the value of the state in which the next one begins.

    Args:
        values: of the histories in which the policy acts.
        part: the name of the scores among the parts of each rollout's own; "": they have none.
        beyond: the score where no next step begins.
    """
    prefix = f"{part}/{STEP_PART}" if part else STEP_PART
    after, outcomes = token_values(tree, values), {}
    for rollout in tree.rollouts:
        path = tree.path(rollout.leaf)
        scores: dict[str, float] = {}
        for index, following in zip(path, [*path[1:], None], strict=True):
            if tree.segments[index].source is not Source.POLICY:
                continue
            answered = following is not None and tree.segments[following].source is not Source.POLICY
            seen = after[tree.flat.ends[following if answered and following is not None else index] - 1]
            scores[f"{prefix}{len(scores) + 1}"] = beyond if np.isnan(seen) else float(seen)
        outcome = cast(Outcome, rollout.outcome)
        outcomes[rollout.leaf] = replace(outcome, score=Score(cast(Score, outcome.score).value, scores))
    return tree.with_outcomes(outcomes)
