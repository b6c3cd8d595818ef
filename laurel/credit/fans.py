"""Where a tree branches: who can be compared with whom, and how much each rollout stands for.

Only the live part of a tree counts: a rollout without a return (failed, filtered) is treated as if it had never been
sampled. A *fan* is a segment with at least two live children. Between two fans runs a *branch*: a chain of segments
(policy, environment, policy ...) that lives and scores as one. A fan weighs its live children equally, so

    value(end of segment) = mean over its live children of value(end of child);   at a leaf, the rollout's return.

On a plain group below one prompt this is the mean over the leaves below. It stays an unbiased estimate of the expected
return also where the number of branches depends on what was drawn (branching by entropy), which the plain mean over
leaves does not.

    prompt -+- a (return 1)                      fan at the prompt: a 1, b 0.5     value(prompt) = 0.75
            +- b -+- c (return 1)                fan at the end of b: c 1, d 0     value(b) = 0.5
                  +- d (return 0)                shares: a 1/2, c 1/4, d 1/4

    leave one out: a +0.5, b -0.5, c +1, d -1
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from laurel.credit.credit import Credit
from laurel.tree import BoolArray, FloatArray, Source, Tree

Comparison = Callable[[FloatArray], FloatArray]


def live_segments(tree: Tree, live_leaves: BoolArray) -> BoolArray:
    """Which segments have a live rollout below them, [S]; `live_leaves` [R] is aligned with `tree.leaves`."""
    live = np.zeros(len(tree.segments), np.bool_)
    live[list(tree.leaves)] = live_leaves
    for index in range(len(tree.segments) - 1, 0, -1):
        live[tree.segments[index].parent] |= live[index]
    return live


def live_children(tree: Tree, live: BoolArray) -> list[list[int]]:
    """The live segments that continue each segment, S lists."""
    return [[child for child in below if live[child]] for below in tree.children]


def segment_values(tree: Tree, returns: FloatArray) -> FloatArray:
    """value(end of segment), [S]: fans average their live children; NaN where nothing below is live."""
    values = np.full(len(tree.segments), np.nan)
    values[list(tree.leaves)] = returns
    children = live_children(tree, live_segments(tree, ~np.isnan(returns)))
    for index in range(len(tree.segments) - 1, -1, -1):
        if children[index]:
            values[index] = np.mean(values[children[index]])
    return values


def branch_advantages(tree: Tree, returns: FloatArray, compare: Comparison) -> FloatArray:
    """advantage(branch) = compare(values of all branches of its fan)[branch], [S]; 0 above the first fan.

    Args:
        returns: [R] aligned with `tree.leaves`, NaN where a rollout does not count.
        compare: returns [G] of the live branches of one fan to advantages [G].
    """
    values = segment_values(tree, returns)
    children = live_children(tree, ~np.isnan(values))
    advantages = np.zeros(len(tree.segments))
    for index, below in enumerate(children):
        if len(below) == 1:
            advantages[below[0]] = advantages[index]
        elif below:
            advantages[below] = compare(values[below])
    return advantages


def rollout_shares(tree: Tree, live_leaves: BoolArray) -> FloatArray:
    """The part of a tree that each rollout stands for, [R]: the product of 1 / (live children) over its fans.

    The shares of the live rollouts sum to 1 (to 0 where none is live); those of the others are 0. In a plain group of
    G each has 1 / G. Weighting by shares keeps the gradient unbiased wherever a tree branches.
    """
    children = live_children(tree, live_segments(tree, live_leaves))
    shares = np.zeros(len(tree.segments))
    shares[0] = 1.0 if live_leaves.any() else 0.0
    for index, below in enumerate(children):
        if below:
            shares[below] = shares[index] / len(below)
    return shares[list(tree.leaves)]


def prompt_samples(tree: Tree, live_leaves: BoolArray) -> int:
    """How many samples with a live rollout were drawn at the prompt: its live children, whatever forks below them."""
    return len(prompt_end(tree, live_leaves)[1])


def prompt_end(tree: Tree, live_leaves: BoolArray) -> tuple[int, list[int]]:
    """The last segment of the prompt, and its live children: where each sample begins."""
    index, below = 0, live_children(tree, live_segments(tree, live_leaves))
    while len(below[index]) == 1 and tree.segments[below[index][0]].source is Source.PROMPT:
        index = below[index][0]
    return index, below[index]


def spread(tree: Tree, advantages: FloatArray, live_leaves: BoolArray) -> Credit:
    """Per-segment advantages [S] to the policy tokens of every live segment."""
    flat = tree.flat
    mask = flat.policy & live_segments(tree, live_leaves)[flat.segment]
    return Credit(np.where(mask, advantages[flat.segment], 0.0), mask)
