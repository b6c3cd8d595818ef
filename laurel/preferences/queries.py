"""Which pairs of answers to ask a teacher about, when labels are few: pure functions of what an ensemble predicts.

A member m of the ensemble, with rewards r_m, expects the first of pair q to be preferred with probability

    p[m, q] = sigmoid(r_m(first of q) - r_m(second of q))

    name               value of a pair                                what is asked about
    uniform            the same for all                               anything: what the others are held against
    disagreement       standard deviation over members of p           where members contradict each other
    entropy            H(mean of p)                                   where the ensemble cannot tell
    information_gain   H(mean of p) - mean of H(p)                    where a label would tell members apart

H(p) = -p log p - (1 - p) log(1 - p), in nats. Entropy is great on pairs that are truly equal, about which no label says
anything; the other two are not, because there the members agree on a half.

Sources: Lee et al. 2021, arXiv 2106.05091 (PEBBLE): uniform, disagreement, entropy; Houlsby et al. 2011,
arXiv 1112.5745: information gain (BALD).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from laurel.errors import ConfigurationError
from laurel.tree import BoolArray, FloatArray, IntArray, Tree

Selection = Literal["uniform", "disagreement", "entropy", "information_gain"]


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt.

    Attributes:
        tree: which of the trees it stands in.
        leaves: of the two, in the order in which they are shown.
    """

    tree: int
    leaves: tuple[int, int]


def preference_probabilities(first: FloatArray, second: FloatArray) -> FloatArray:
    """sigmoid(first - second), [M, Q], of the rewards that members give to both sides, [M, Q] each."""
    return np.asarray(np.exp(-np.logaddexp(0.0, np.asarray(second) - np.asarray(first))))


def binary_entropy(probabilities: FloatArray) -> FloatArray:
    """-p log p - (1 - p) log(1 - p), in nats, of any shape; 0 at 0 and 1, log 2 at a half."""
    p = np.clip(probabilities, 0.0, 1.0)
    parts = [np.where(q > 0, -q * np.log(np.where(q > 0, q, 1.0)), 0.0) for q in (p, 1 - p)]
    return np.asarray(parts[0] + parts[1])


def uniform(probabilities: FloatArray) -> FloatArray:
    """0 for every pair, [Q], of p [M, Q]: a choice by it alone is a draw without replacement."""
    return np.zeros(probabilities.shape[1])


def preference_disagreement(probabilities: FloatArray) -> FloatArray:
    """The standard deviation over members, [Q], of p [M, Q]; divided by M.

    Example: members that say 0.9 and 0.1 disagree by 0.4.
    """
    return np.asarray(probabilities.std(axis=0))


def mean_entropy(probabilities: FloatArray) -> FloatArray:
    """H of what members say on average, [Q], of p [M, Q].

    Example: 0.9 and 0.1, and 0.5 and 0.5, both have log 2.
    """
    return binary_entropy(probabilities.mean(axis=0))


def information_gain(probabilities: FloatArray) -> FloatArray:
    """H(mean of p) - mean of H(p), [Q], of p [M, Q]: the mutual information of a label and of which member is right.

    Never negative, 0 where members agree, at most log 2.

    Example: 1 and 0 have log 2; 0.9 and 0.1 have log 2 - 0.3251; 0.5 and 0.5 have 0.
    """
    gain = binary_entropy(probabilities.mean(axis=0)) - binary_entropy(probabilities).mean(axis=0)
    return np.asarray(np.maximum(gain, 0.0))  # what rounding leaves below 0


SELECTIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "uniform": uniform,
    "disagreement": preference_disagreement,
    "entropy": mean_entropy,
    "information_gain": information_gain,
}
"""From p [M, Q] to the value of asking about each pair, [Q]."""


def check_selection(name: str) -> None:
    """Refuse a name that is none of `SELECTIONS`.

    Raises:
        ConfigurationError
    """
    if name not in SELECTIONS:
        raise ConfigurationError(f"Queries cannot be selected by {name!r}.", hint=f"use {', '.join(SELECTIONS)}.")


def most_valuable(values: FloatArray, count: int, draw: np.random.Generator) -> IntArray:
    """The places of the `count` greatest values, greatest first (all, if there are fewer); ties fall by lot.

    Example: of (0, 2, 1, 2) the first two are places 1 and 3, in either order.
    """
    shuffled = draw.permutation(len(values))
    order = shuffled[np.argsort(-np.asarray(values)[shuffled], kind="stable")]
    return np.asarray(order[:count], np.int64)


def candidate_pairs(trees: Sequence[Tree], draw: np.random.Generator) -> list[Pair]:
    """Every pair of different answers to one prompt, which of the two is shown first by lot.

    Rollouts that failed, and answers that say nothing, are in no pair. Answers are different if their texts are; of
    pairs with the same two texts below one prompt the first is there.
    """
    pairs: list[Pair] = []
    for number, tree in enumerate(trees):
        seen: set[frozenset[str]] = set()
        readable = [
            rollout
            for rollout in tree.rollouts
            if rollout.outcome is not None and not rollout.outcome.failed and rollout.text.strip()
        ]
        for place, one in enumerate(readable):
            for other in readable[place + 1 :]:
                texts = frozenset((one.text, other.text))
                if len(texts) == 2 and texts not in seen:
                    seen.add(texts)
                    leaves = (one.leaf, other.leaf)
                    pairs.append(Pair(number, leaves if draw.random() < 0.5 else leaves[::-1]))
    return pairs


def pseudo_labels(probabilities: FloatArray, threshold: float) -> tuple[FloatArray, BoolArray]:
    """Labels for pairs that nobody was asked about, where the model is sure of them.

    For p [Q] the label is 1 where p > 1/2, else 0, [Q]; it counts where max(p, 1 - p) > threshold, [Q]. At a threshold
    of 1 none counts.

    Example: p = (0.97, 0.6, 0.01), threshold 0.95: labels (1, 1, 0), of which the first and the last count.

    The source also crops both sides to pieces, because its rewards are sums over steps that are alike anywhere. A
    reward model of answers reads a whole answer at its end, and a piece of one is another answer: nothing is cropped.

    Source: Park et al. 2022, arXiv 2203.10050 (SURF).

    Raises:
        ConfigurationError: the threshold does not lie in [1/2, 1].
    """
    if not 0.5 <= threshold <= 1:
        raise ConfigurationError(
            f"A pseudo-label counts above a confidence in [1/2, 1], got {threshold}.", hint="0.99 is usual."
        )
    labels = np.asarray(probabilities > 0.5, np.float64)
    return labels, np.asarray(np.maximum(probabilities, 1 - probabilities) > threshold)


def exploration_weight(step: int, *, start: float, decay: float) -> float:
    """start * (1 - decay)^step: what disagreement about a reward is worth, as a bonus, after `step` steps.

    Example: start 0.5, decay 0.1: 0.5, 0.45, 0.405.
    Source: Liang et al. 2022, arXiv 2205.12401 (RUNE), where reward = mean + weight * disagreement.

    Raises:
        ConfigurationError: a negative start, or a decay outside of [0, 1].
    """
    if not start >= 0 or not 0 <= decay <= 1:
        raise ConfigurationError(
            f"A bonus of {start} that decays by {decay} a step is none.", hint="start from 0 on, decay in [0, 1]."
        )
    return float(start * (1 - decay) ** step)
