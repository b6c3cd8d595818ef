"""How per-token losses become one number: the weight of every token, decided once for a whole optimiser step.

loss = sum over tokens of weight * loss. Numerator and denominator are one thing, made before any micro-batch exists, so
no split can change the gradient. numpy only.

A token that several rollouts share is stored once and stands for all of them. Each reduction is defined on rollouts
as if they were separate rows; rollout i counts m_i = n * share_i times, with n the live samples of its prompt and the
shares of `laurel.credit.rollout_shares`, and a shared token gets the sum over its rollouts. In a plain group m_i = 1; a
sample that forks into two counts half for each, so that how often it forked, which may depend on what was drawn, does
not vote. N, the number of rollouts, is the sum of all m_i: the samples of all prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from laurel.credit.fans import prompt_samples, rollout_shares
from laurel.errors import ConfigurationError
from laurel.tree import BoolArray, FloatArray, Source, Tree


class Reduction(Protocol):
    """The weight of every token in the loss of a whole optimiser step; loss = sum over tokens of weight * loss.

    Numerator and denominator are one thing, decided before any micro-batch exists: no split can change the gradient.
    """

    def __call__(self, trees: Sequence[Tree], masks: Sequence[BoolArray]) -> list[FloatArray]: ...


@dataclass(frozen=True)
class TokenMean:
    """Every token counts the same: w_t = 1 / (all masked tokens of the step). DAPO, arXiv 2503.14476, equation 8.

    Long rollouts weigh more than short ones. The denominator runs over the whole step (all prompts), not one prompt.
    """

    def __call__(self, trees: Sequence[Tree], masks: Sequence[BoolArray]) -> list[FloatArray]:
        return _normalised([_spread(tree, mask, _ones) for tree, mask in zip(trees, masks, strict=True)])


@dataclass(frozen=True)
class DistinctTokenMean:
    """Every distinct token counts the same, once: w_t = 1 / (all masked tokens of the step), wherever a tree forks.

    For trees whose forks are no samples, such as an expert's answers beside the turns of one rollout.
    """

    def __call__(self, trees: Sequence[Tree], masks: Sequence[BoolArray]) -> list[FloatArray]:
        for tree, mask in zip(trees, masks, strict=True):
            _check_mask(tree, mask)
        return _normalised([mask.astype(np.float64) for mask in masks])


@dataclass(frozen=True)
class SequenceMean:
    """Every rollout counts the same, its tokens averaged: w_t = 1 / (N |o_i|). GRPO, arXiv 2402.03300, equation 3.

    |o_i| counts the masked tokens of rollout i, N the rollouts that have any. Short rollouts pull harder per token.
    """

    def __call__(self, trees: Sequence[Tree], masks: Sequence[BoolArray]) -> list[FloatArray]:
        return _normalised([_spread(tree, mask, _inverse) for tree, mask in zip(trees, masks, strict=True)])


@dataclass(frozen=True)
class PromptMean:
    """Every prompt counts the same, all tokens below it averaged: w_t = 1 / (P * masked tokens of the prompt).

    P counts the prompts that have a masked token. This is the other reading of DAPO's denominator.
    """

    def __call__(self, trees: Sequence[Tree], masks: Sequence[BoolArray]) -> list[FloatArray]:
        per_tree = [_normalised([_spread(tree, mask, _ones)])[0] for tree, mask in zip(trees, masks, strict=True)]
        prompts = sum(bool(mask.any()) for mask in masks)
        return [weights / max(prompts, 1) for weights in per_tree]


@dataclass(frozen=True)
class ConstantLength:
    """Tokens are summed and divided by a constant: w_t = 1 / (N * length). Dr. GRPO, arXiv 2503.20783.

    No length enters, so the expected gradient of the sum over a rollout's tokens keeps its direction; with length 1 it
    is the gradient of the expected return itself. N counts the rollouts that have a masked token.

    Attributes:
        length: the constant, in tokens; the longest allowed answer is customary, 1 is exact.
    """

    length: float = 1.0

    def __post_init__(self) -> None:
        if not self.length > 0:
            raise ConfigurationError(
                f"The constant length must be above 0, got {self.length!r}.", hint="take the longest allowed answer."
            )

    def __call__(self, trees: Sequence[Tree], masks: Sequence[BoolArray]) -> list[FloatArray]:
        counted = [_spread(tree, mask, _ones) for tree, mask in zip(trees, masks, strict=True)]
        rollouts = sum(prompt_samples(tree, live_rollouts(tree, mask)) for tree, mask in zip(trees, masks, strict=True))
        return [weights / (max(rollouts, 1) * self.length) for weights in counted]


def _ones(lengths: FloatArray) -> FloatArray:
    return np.ones_like(lengths)


def _inverse(lengths: FloatArray) -> FloatArray:
    return 1 / np.maximum(lengths, 1)


def live_rollouts(tree: Tree, mask: BoolArray) -> BoolArray:
    """Which rollouts carry loss, [R]: those whose last policy segment has a masked token and that did not fail.

    A mask says which segments carry loss; a rollout that credit left out has none on the segments that only it has.
    """
    carries = np.add.reduceat(mask, tree.flat.starts) > 0
    last = np.zeros(len(tree.segments), np.bool_)
    for index, segment in enumerate(tree.segments):
        if segment.source is Source.POLICY:
            last[index] = carries[index]
        elif segment.parent >= 0:
            last[index] = last[segment.parent]
    outcomes = [tree.segments[leaf].outcome for leaf in tree.leaves]
    usable = np.array([outcome is None or not outcome.failed for outcome in outcomes])
    live: BoolArray = last[list(tree.leaves)] & usable
    return live


def _spread(tree: Tree, mask: BoolArray, weight: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Sum over the rollouts through each masked token of m_i * weight(|o_i|), [T]."""
    _check_mask(tree, mask)
    flat = tree.flat
    live = live_rollouts(tree, mask)
    counts = np.add.reduceat(mask, flat.starts).astype(np.float64)
    for index, segment in enumerate(tree.segments[1:], start=1):
        counts[index] += counts[segment.parent]
    leaves = list(tree.leaves)
    below = np.zeros(len(tree.segments))
    below[leaves] = prompt_samples(tree, live) * rollout_shares(tree, live) * weight(counts[leaves])
    for index in range(len(tree.segments) - 1, 0, -1):
        below[tree.segments[index].parent] += below[index]
    return np.where(mask, below[flat.segment], 0.0)


def _check_mask(tree: Tree, mask: BoolArray) -> None:
    if mask.shape != (len(tree.flat),) or bool(np.any(mask & ~tree.flat.policy)):
        raise ConfigurationError(
            f"Tree {tree.id}: the mask must have one entry per token and lie on policy tokens only.",
            hint="take the mask from the credit of this very tree.",
        )


def _normalised(weights: list[FloatArray]) -> list[FloatArray]:
    total = sum(float(part.sum()) for part in weights)
    return [part / total if total else part for part in weights]
