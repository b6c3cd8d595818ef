"""Trees whose rewards were changed before credit is given: by so much per token, or by so much per rollout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from laurel.errors import TreeError
from laurel.tree import FloatArray, Score, Segment, Source, Tree


def with_token_rewards(tree: Tree, added: FloatArray) -> Tree:
    """The same tree with `added` [T] on top of the rewards of its policy tokens; other entries are not read.

    A return counts all of them, whatever credit rule reads it; rules that look inside a segment (generalised
    advantages, V-trace) see when each of them came. A token that several rollouts share adds to the return of each.

    Raises:
        TreeError: if there is not one finite number for every policy token.
    """
    flat = tree.flat
    if added.shape != (len(flat),) or not np.isfinite(added[flat.policy]).all():
        raise TreeError(f"Tree {tree.id}: {added.shape} token rewards do not fit its {len(flat)} tokens, or are no "
                        "finite numbers.", hint="give one number per token of tree.flat.")  # fmt: skip
    segments = [
        _raised(segment, added[start:end]) if segment.source is Source.POLICY else segment
        for segment, start, end in zip(tree.segments, flat.starts.tolist(), flat.ends.tolist(), strict=True)
    ]
    return replace(tree, segments=tuple(segments))


def _raised(segment: Segment, added: FloatArray) -> Segment:
    spread = added.copy()
    if segment.token_rewards is not None:
        spread += segment.token_rewards
    else:
        spread[-1] += segment.reward
    return replace(segment, reward=float(spread.sum()), token_rewards=spread)


def with_scores(tree: Tree, added: FloatArray) -> Tree:
    """The same tree with `added` [R] on top of the scores of its rollouts; those without a score are left as they are.

    Args:
        added: aligned with `tree.leaves`; entries of rollouts without a score are not read.
    """
    outcomes = {}
    for leaf, more in zip(tree.leaves, added.tolist(), strict=True):
        outcome = tree.segments[leaf].outcome
        if outcome is not None and isinstance(outcome.score, Score) and not outcome.failed:
            score = replace(outcome.score, value=outcome.score.value + more)
            outcomes[leaf] = replace(outcome, score=score)
    return tree.with_outcomes(outcomes)
