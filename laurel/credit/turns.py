"""Turns: what the policy says between two observations, as one decision."""

from __future__ import annotations

import numpy as np

from laurel.credit.fans import live_children, live_segments
from laurel.credit.temporal import ends_truncated, final_rewards
from laurel.tree import FloatArray, Source, Tree


def turn_targets(
    tree: Tree,
    values: FloatArray,
    returns: FloatArray,
    *,
    discount: float = 1.0,
    decay: float = 1.0,
    bootstrap: bool = True,
) -> tuple[FloatArray, FloatArray]:
    """What every policy segment leads to, and the value where its turn began. [S], [S]; 0 on the others.

    target(segment) = r + discount (V(next turn) + decay (target(next turn) - V(next turn))), r from the segment's own
    reward to the next turn, the mean over live continuations where rollouts fork. A turn that is cut in several
    segments is one turn. Terminated: nothing follows; truncated: the value after the last token does.

    Args:
        values: [T], the value after each token, as in `laurel.credit.temporal`; only those before a turn are read.
        returns: [R] aligned with `tree.leaves`, NaN where a rollout does not count.
        discount, decay: per turn.
        bootstrap: whether what would have followed a truncated rollout is worth V(its last token), or nothing.
    """
    flat, size = tree.flat, len(tree.segments)
    live = live_segments(tree, ~np.isnan(returns))
    children, final = live_children(tree, live), final_rewards(tree, returns)
    starts = np.zeros(size)
    for index, segment in enumerate(tree.segments[1:], start=1):
        if segment.source is Source.POLICY and live[index]:
            goes_on = tree.segments[segment.parent].source is Source.POLICY
            starts[index] = starts[segment.parent] if goes_on else values[flat.ends[segment.parent] - 1]
    targets = np.zeros(size)
    for index in range(size - 1, 0, -1):
        if not live[index]:
            continue
        segment, follows = tree.segments[index], []
        for child in children[index]:
            new_turn = segment.source is not Source.POLICY and tree.segments[child].source is Source.POLICY
            if new_turn:
                ahead = starts[child] + decay * (targets[child] - starts[child])
                follows.append(discount * ahead)
            else:
                follows.append(targets[child])
        if not follows:
            goes_on = bootstrap and ends_truncated(segment)
            follows.append(final[index] + (discount * float(values[flat.ends[index] - 1]) if goes_on else 0.0))
        targets[index] = segment.reward + float(np.mean(follows))
    policy = np.array([segment.source is Source.POLICY for segment in tree.segments])
    return np.where(policy, targets, 0.0), starts
