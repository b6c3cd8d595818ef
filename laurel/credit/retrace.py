"""Retrace: action values from another policy's rollouts, safe for any of them."""

from __future__ import annotations

import numpy as np

from laurel.credit.temporal import check_fractions
from laurel.tree import FloatArray


def retrace(
    q: FloatArray,
    expected_q: FloatArray,
    rewards: FloatArray,
    log_ratios: FloatArray,
    *,
    discount: float = 1.0,
    decay: float = 1.0,
) -> FloatArray:
    """Targets for Q(s_t, a_t) along one rollout of a policy mu, [n].

    target_t = Q_t + delta_t + discount c_t+1 (target_t+1 - Q_t+1),   c = decay min(1, pi / mu),
    delta_t = r_t + discount E_(a ~ pi) Q(s_t+1, a) - Q_t.

    Q^pi is its fixed point whatever mu is; the ratio is cut at 1, so its variance is bounded; where pi and mu agree
    nothing is cut and it is the lambda-return.

    Args:
        q: [n] Q(s_t, a_t).
        expected_q: [n] sum_a pi(a|s_t+1) Q(s_t+1, a): after the last token 0 if it terminated, the value of the state
            if it was truncated.
        rewards: [n] paid between token t and the next decision.
        log_ratios: [n] log pi(a_t|s_t) - log mu(a_t|s_t).
        discount, decay: per decision, in [0, 1].

    Source: Munos et al. 2016, arXiv 1606.02647, equations 3 and 4.
    """
    check_fractions(discount=discount, decay=decay)
    delta = rewards + discount * expected_q - q
    carry = decay * np.minimum(1.0, np.exp(log_ratios))
    correction = np.zeros(len(q) + 1)
    for t in range(len(q) - 1, -1, -1):
        onward = carry[t + 1] * correction[t + 1] if t + 1 < len(q) else 0.0
        correction[t] = delta[t] + discount * onward
    return q + correction[:-1]
