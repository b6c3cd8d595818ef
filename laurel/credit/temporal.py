"""Credit from values of states: temporal differences along the tree, summed with a decay.

Values come as one array [T] per tree, aligned with `tree.flat`: **values[t] is the value of the state after token t**,
the number that a critic reads at token t. So the value before token t is values[parent of t], the value after a
rollout is read at its last token, and siblings share the value at their fork. This one gather is the only shift.

A decision is a policy token. Between it and the next decision stand whatever the environment says and pays:

    policy a  policy b | observed o o o (pays r) | policy c <end> (scores R, terminated)
      delta_a = discount V(a) - V(prompt)                  V(a): value after a
      delta_b = r + discount V(o) - V(a)                   V(o): after the *last* observed token, before c
      delta_c = R + 0 - V(o)                               terminated: nothing follows; truncated: + discount V(c)

Nobody is ever fitted to V(c) of a cut rollout: no rollout went on from there. See `bootstrap` for where that matters.

Advantages pass from c to b unchanged by the number of observed tokens; nothing is read at the others. Where rollouts
fork, what follows is the mean over the live continuations (`laurel.credit.fans`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laurel.credit.fans import live_children, live_segments
from laurel.errors import ConfigurationError
from laurel.tree import Ending, FloatArray, Segment, Source, Tree


@dataclass(frozen=True)
class Differences:
    """What the recursion knows about every live policy token; [T] each, 0 elsewhere.

    Attributes:
        before: V(s_t).
        delta: r_t + discount V(s_t+1) - V(s_t).
        total: D_t = weight_t delta_t + discount carry_t D_t+1.
        following: D_t+1, 0 where the rollout ended.
    """

    before: FloatArray
    delta: FloatArray
    total: FloatArray
    following: FloatArray


def temporal_differences(
    tree: Tree,
    values: FloatArray,
    returns: FloatArray,
    *,
    discount: float = 1.0,
    carry: FloatArray | float = 1.0,
    weight: FloatArray | float = 1.0,
    bootstrap: bool = True,
) -> Differences:
    """D_t = weight_t delta_t + discount carry_t D_t+1 over all live policy tokens of a tree.

    carry = lambda, weight = 1 is generalised advantage estimation and TD(lambda); importance ratios give V-trace.

    Args:
        values: [T], the value after each token (see the module).
        returns: [R] aligned with `tree.leaves`, NaN where a rollout does not count; what a rollout earned beyond the
            rewards on its segments is paid at its end.
        discount: per decision, in [0, 1].
        bootstrap: whether what would have followed a truncated rollout is worth V(its last token), or nothing.
    """
    flat = tree.flat
    if values.shape != (len(flat),):
        raise ConfigurationError(
            f"Tree {tree.id}: {values.shape} values for {len(flat)} tokens.", hint="give one value after each token."
        )
    carries, weights = np.broadcast_to(carry, len(flat)), np.broadcast_to(weight, len(flat))
    before, delta, total, following = (np.zeros(len(flat)) for _ in range(4))
    after = _Following(tree, values, returns, total, bootstrap)
    for index in range(len(tree.segments) - 1, -1, -1):
        segment = tree.segments[index]
        if segment.source is not Source.POLICY or not after.live[index]:
            continue
        start, end = int(flat.starts[index]), int(flat.ends[index])
        before[start:end] = values[flat.parent[start:end]]
        reward, value, future = after(index)
        delta[start : end - 1] = discount * values[start : end - 1] - before[start : end - 1]
        delta[end - 1] = segment.reward + reward + discount * value - before[end - 1]
        if segment.token_rewards is not None:  # it came with the tokens, not all of it with the last
            delta[end - 1] -= segment.reward
            delta[start:end] += segment.token_rewards
        for token in range(end - 1, start - 1, -1):
            following[token] = future
            future = weights[token] * delta[token] + discount * carries[token] * future
            total[token] = future
    return Differences(before, delta, total, following)


class _Following:
    """What comes after the last token of a segment: reward, value and total of the next decision, as means."""

    def __init__(self, tree: Tree, values: FloatArray, returns: FloatArray, total: FloatArray, bootstrap: bool) -> None:
        self.tree, self.values, self.total, self.bootstrap = tree, values, total, bootstrap
        self.live = live_segments(tree, ~np.isnan(returns))
        self.children = live_children(tree, self.live)
        self.final = final_rewards(tree, returns)

    def __call__(self, index: int) -> tuple[float, float, float]:
        flat, last = self.tree.flat, int(self.tree.flat.ends[index]) - 1
        below = self.children[index]
        if not below:
            goes_on = self.bootstrap and ends_truncated(self.tree.segments[index])
            return self.final[index], float(self.values[last]) if goes_on else 0.0, 0.0
        reward = value = future = 0.0
        for child in below:
            if self.tree.segments[child].source is Source.POLICY:
                value += float(self.values[last])
                future += float(self.total[flat.starts[child]])
            else:
                onward = self(child)
                reward += self.tree.segments[child].reward + onward[0]
                value += onward[1]
                future += onward[2]
        return reward / len(below), value / len(below), future / len(below)


def final_rewards(tree: Tree, returns: FloatArray) -> dict[int, float]:
    """What each live rollout earned beyond the rewards on its segments, by leaf."""
    paid = np.zeros(len(tree.segments))
    for index, segment in enumerate(tree.segments):
        paid[index] = segment.reward + (paid[segment.parent] if segment.parent >= 0 else 0.0)
    earned = zip(tree.leaves, returns.tolist(), strict=True)
    return {leaf: value - float(paid[leaf]) for leaf, value in earned if not np.isnan(value)}


def ends_truncated(segment: Segment) -> bool:
    """Whether a leaf was cut off, so that what would have followed has a value; a terminated one has none."""
    return segment.outcome is not None and segment.outcome.ending is Ending.TRUNCATED


def check_fractions(**settings: float | None) -> None:
    """Every one of these lies in [0, 1].

    Raises:
        ConfigurationError: one does not; names it.
    """
    for name, value in settings.items():
        if value is not None and not 0 <= value <= 1:
            raise ConfigurationError(
                f"{name} must lie in [0, 1], got {value!r}.", hint="such as 0.95, or 1 for no decay."
            )
