"""Comparing the members of one group: the returns of siblings to their advantages. Pure functions of [G] -> [G].

Every function returns exact zeros for a group of one and for a constant group, so that neither a division by zero nor
rounding noise can pass for a signal. Failed siblings are removed before these functions are called.
"""

from __future__ import annotations

import numpy as np

from laurel.tree import FloatArray

# Two sums of the same reward parts in another order differ by this much, relative to their size, and no more.
ROUNDING = 1e-12


def is_constant(returns: FloatArray) -> bool:
    """Whether all returns of a group are the same number up to rounding (also true for none and for one)."""
    if len(returns) < 2:
        return True
    return float(np.ptp(returns)) <= ROUNDING * float(np.abs(returns).max())


def sibling_mean(returns: FloatArray) -> FloatArray:
    """A_i = R_i - mean_j R_j, the mean over the whole group, oneself included. [G]

    The group's own return is in its baseline, so the expected gradient is 1 - 1/G times the exact one: right
    direction, smaller step (Dr. GRPO, arXiv 2503.20783, appendix A).
    """
    if is_constant(returns):
        return np.zeros_like(returns)
    return _centred(returns)


def leave_one_out(returns: FloatArray) -> FloatArray:
    """A_i = R_i - mean_{j != i} R_j = G / (G - 1) * (R_i - mean_j R_j). [G]

    The baseline is independent of sample i, so the expected gradient is exact (Kool et al. 2019; RLOO, arXiv
    2402.14740, equation 8). A group of one has nothing to be compared with: 0.
    """
    if is_constant(returns):
        return np.zeros_like(returns)
    size = len(returns)
    return _centred(returns) * size / (size - 1)


def standardised(returns: FloatArray, *, ddof: int = 0, epsilon: float = 1e-6) -> FloatArray:
    """A_i = (R_i - mean_j R_j) / (std_j R_j + epsilon). [G]

    std^2 = sum_j (R_j - mean)^2 / (G - ddof). Dividing by a deviation that depends on the samples tilts the expected
    gradient: groups of rare outcomes weigh more (biased; arXiv 2503.20783). Source: GRPO, arXiv 2402.03300, section 4.

    How much is a matter of the task. Of two samples only the sign of the difference is left, so where returns are 0 or
    1 nothing is tilted, and where three answers of returns 0 < x < 1 are equally likely the cosine to the exact
    gradient is sqrt(3) / (2 sqrt(x^2 - x + 1)): from 0.866 to 1, and 0.976 at x = 0.307.

    Args:
        ddof: 0 is the deviation of the group itself, 1 the unbiased estimate that libraries with `torch.std` use.
        epsilon: keeps nearly constant groups from exploding; in units of the return.
    """
    if is_constant(returns):
        return np.zeros_like(returns)
    return _centred(returns) / float(returns.std(ddof=ddof) + epsilon)


def _centred(returns: FloatArray) -> FloatArray:
    centred: FloatArray = returns - returns.mean()
    return centred
