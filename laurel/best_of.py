"""Best-of-n: draw n answers, keep the one that a proxy reward likes best. The control for any reinforcement.

Nothing is trained, so what a reinforced policy gains beyond it at the same KL is due to learning. Its own KL from the
policy that it draws from is known without measuring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from laurel.errors import ConfigurationError
from laurel.tree import FloatArray


def best_of_kl(n: int) -> float:
    """KL(best of n, policy) = log n - (n - 1) / n, in nats, whatever the policy and the proxy.

    Exact where no two answers have the same proxy reward and none is drawn twice; else it is an upper bound.

    Example: n = 1 gives 0, n = 2 gives log 2 - 1/2 = 0.193.
    Source: Stiennon et al., arXiv 2009.01325, appendix G.3; the bound: Beirami et al., arXiv 2401.01879.

    Raises:
        ConfigurationError: n is below 1.
    """
    if n < 1:
        raise ConfigurationError(f"The best of {n} answers is none.", hint="n is at least 1.")
    return math.log(n) - (n - 1) / n


def best_of_weights(count: int, n: int) -> FloatArray:
    """[count] the probability that the i-th lowest of `count` answers is the best among n of them, drawn at random.

        w_i = C(i - 1, n - 1) / C(count, n),  i = 1 ... count

    Example: of 3 answers, n = 2: 0, 1/3, 2/3.

    Raises:
        ConfigurationError: n is not between 1 and `count`.
    """
    if not 1 <= n <= count:
        raise ConfigurationError(
            f"The best of {n} cannot be told from {count} answers.", hint="draw at least n answers to every prompt."
        )
    weights = np.zeros(count)
    weights[-1] = n / count
    for i in range(count, n, -1):  # C(i - 2, n - 1) = C(i - 1, n - 1) (i - n) / (i - 1)
        weights[i - 2] = weights[i - 1] * (i - n) / (i - 1)
    return weights


def expected_best(proxy: Sequence[float] | FloatArray, values: Sequence[float] | FloatArray, n: int) -> float:
    """What the answer that the proxy likes best among n is worth on average, over all choices of n from these answers.

    Without bias for fresh draws, and with less noise than one choice. Answers of equal proxy reward are chosen equally
    often.

    Args:
        proxy: [N] what answers to one prompt are chosen by.
        values: [N] what is averaged: the gold reward, or the proxy itself.
        n: at most N.

    Example: proxy (1, 2, 3), values (5, 1, 0), n = 2: 0 * 5 + 1/3 * 1 + 2/3 * 0 = 1/3.
    Source: Nakano et al., arXiv 2112.09332, appendix I, equation for the estimator.

    Raises:
        ConfigurationError: as `best_of_weights`.
    """
    ranks, worth = np.asarray(proxy, np.float64), np.asarray(values, np.float64)
    order = np.argsort(ranks, kind="stable")
    weights = best_of_weights(len(ranks), n)
    _, group = np.unique(ranks[order], return_inverse=True)
    shared = np.bincount(group, weights) / np.bincount(group)
    return float(shared[group] @ worth[order])
