"""What rewards without labels teach on average, exactly: every group that can be drawn, judged by the reward itself.

For one-token answers with probabilities p, let m(a) be the chance that the vote of a group which holds an answer a
falls on a. Without a baseline the expected gradient with respect to the logits is

    g(a) = p(a) (m(a) - sum_b p(b) m(b))                         d p(a) = p(a) (g(a) - sum_b p(b) g(b))

m rises with p, so the most likely answer gains, whether it is right or not. A coin in place of the vote has the same
chance for every answer, and g = 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import comb, prod

import numpy as np

from laurel.rewards.agreement import SiblingReward
from laurel.tasks.task import Task
from laurel.theory.designs import Experience
from laurel.tree import FloatArray, Outcome, Score, Source, Tree


def judged_by_siblings(drawn: Iterable[Experience], reward: SiblingReward) -> Iterator[Experience]:
    """The same batches, scored by the reward in place of the world. The text of an answer is its tokens as digits."""
    for experience in drawn:
        yield replace(experience, trees=tuple(_judged(tree, reward) for tree in experience.trees))


def judged_by_coin(drawn: Iterable[Experience], probability: float) -> Iterator[Experience]:
    """Every batch with every outcome of one coin per rollout, which pays 1 with this probability, else 0."""
    for experience in drawn:
        leaves = [len(tree.leaves) for tree in experience.trees]
        for coins in itertools.product((0, 1), repeat=sum(leaves)):
            chance = prod(probability if coin else 1 - probability for coin in coins)
            thrown = iter(coins)
            trees = tuple(_scored(tree, [Score(float(next(thrown))) for _ in tree.leaves]) for tree in experience.trees)
            yield replace(experience, probability=experience.probability * chance, trees=trees)


def vote_chances(probabilities: FloatArray, samples: int, *, leave_one_out: bool = False) -> FloatArray:
    """m(a): what an answer a earns on average by `laurel.rewards.majority_vote`, as one of `samples` siblings. [A]

    The sum runs over all counts of the others, each with its multinomial probability; a tie of k pays 1/k.

    Example: of two answers with p = (0.8, 0.2) and three siblings, an answer 0 wins unless both others say 1:
    m = (1 - 0.04, 1 - 0.64) = (0.96, 0.36).
    """
    p = np.asarray(probabilities, np.float64)
    earned = np.zeros(len(p))
    for counts in _counts(samples - 1, len(p)):
        left, chance = samples - 1, 1.0
        for count, own in zip(counts, p, strict=True):
            chance *= comb(left, count) * own**count
            left -= count
        for answer in range(len(p)):
            votes = np.array(counts)
            votes[answer] += 0 if leave_one_out else 1
            winners = np.flatnonzero(votes == votes.max())
            earned[answer] += chance * (answer in winners) / len(winners)
    return earned


def probability_change(probabilities: FloatArray, gradient: FloatArray) -> FloatArray:
    """dp(a) per unit of step when softmax logits move along a gradient g: p(a) (g(a) - sum_b p(b) g(b)). [A]"""
    p = np.asarray(probabilities, np.float64)
    return np.asarray(p * (gradient - p @ gradient))


def _counts(total: int, kinds: int) -> Iterator[tuple[int, ...]]:
    """All ways to divide `total` among `kinds`."""
    if kinds == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _counts(total - first, kinds - 1):
            yield (first, *rest)


def _judged(tree: Tree, reward: SiblingReward) -> Tree:
    told = tuple(
        replace(s, text="".join(map(str, s.tokens.tolist()))) if s.source is Source.POLICY else s for s in tree.segments
    )
    tree = replace(tree, segments=told)
    task = Task(tree.task_id, "")
    results = reward.score_rollouts([(task, rollout) for rollout in tree.rollouts])
    return _scored(tree, [result for result in results if isinstance(result, Score)])


def _scored(tree: Tree, scores: list[Score]) -> Tree:
    outcomes: dict[int, Outcome] = {}
    for leaf, score in zip(tree.leaves, scores, strict=True):
        ended = tree.segments[leaf].outcome
        assert ended is not None
        outcomes[leaf] = replace(ended, score=score)
    return tree.with_outcomes(outcomes)
