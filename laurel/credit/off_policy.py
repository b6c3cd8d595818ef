"""Credit rules that read a critic and correct for the policy that drew the experience: V-trace and Retrace.

mu drew the tokens, pi is the policy now, w_t = pi(a_t|s_t) / mu(a_t|s_t). Both rules are one recursion,

    delta_t = r_t + discount V(s_t+1) - V(s_t)
    target      v_t = V(s_t) + rho_t delta_t + discount c_t (v_t+1 - V(s_t+1))
    advantage   rho_t (r_t + discount v_t+1 - V(s_t))

and differ in rho and c alone. The ratio is applied here: use them with an objective that does not weigh by it again. An
objective with a ratio to the start of the update (`ClippedRatio`) does not, and together they are decoupled PPO
(arXiv 2505.24298).

In experience that is learned from as soon as it was drawn all w are 1: targets are the lambda-returns of
`GeneralisedAdvantage`, and advantages its own where the decay is 1. Below 1 they are delta_t + discount A_t+1 in place
of its delta_t + discount decay A_t+1, because IMPALA takes v_t+1 as it stands for the value of the action.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from laurel.credit.credit import Credit
from laurel.credit.critic import policy_mask
from laurel.credit.returns import Returns, TotalReward
from laurel.credit.standardise import standardise_step
from laurel.credit.temporal import check_fractions, temporal_differences
from laurel.errors import ConfigurationError
from laurel.tree import FloatArray, Tree


class OffPolicyRule(Protocol):
    """As `CriticRule`, with log pi - log mu of every drawn token, [T] per tree: what drew it may be an older policy.

    `needs_log_ratios` is True beside `needs_values`. The rule weighs by the ratio, so the objective must not.
    """

    needs_values: bool
    needs_log_ratios: bool

    def __call__(
        self, trees: Sequence[Tree], values: Sequence[FloatArray], log_ratios: Sequence[FloatArray]
    ) -> list[Credit]: ...


@dataclass(frozen=True)
class VTrace:
    """rho = min(w, rho_cap), c = decay min(w, c_cap): bounded weights, and a bounded bias.

    Without caps and with decay 1, v_t is unbiased for V^pi(s_t) whatever V is; with a rho_cap, V converges to the value
    of a policy between mu and pi, in proportion to min(rho_cap mu, pi).

    Attributes:
        rho_cap, c_cap: bounds on the ratios, rho_cap >= c_cap > 0.
        decay, discount: in [0, 1].
        standardise, bootstrap: as in `GeneralisedAdvantage`.

    Source: IMPALA, arXiv 1802.01561, section 4.1.
    """

    rho_cap: float = 1.0
    c_cap: float = 1.0
    decay: float = 1.0
    discount: float = 1.0
    standardise: bool = False
    bootstrap: bool = True
    returns: Returns = field(default_factory=TotalReward)

    needs_values = True
    needs_log_ratios = True

    def __post_init__(self) -> None:
        check_fractions(decay=self.decay, discount=self.discount)
        if not self.rho_cap >= self.c_cap > 0:
            raise ConfigurationError(
                f"V-trace needs rho_cap >= c_cap > 0, got {self.rho_cap!r} and {self.c_cap!r}.",
                hint="its paper uses 1.",
            )

    def __call__(
        self, trees: Sequence[Tree], values: Sequence[FloatArray], log_ratios: Sequence[FloatArray]
    ) -> list[Credit]:
        """`log_ratios`: [T] per tree, log pi(a_t|s_t) - log mu(a_t|s_t) of policy tokens; others are not read."""
        credits = []
        for tree, value, log_ratio in zip(trees, values, log_ratios, strict=True):
            returns = self.returns(tree)
            mask = policy_mask(tree, returns)
            ratio = np.exp(np.where(mask, log_ratio, 0.0))
            rho, carry = np.minimum(ratio, self.rho_cap), self.decay * np.minimum(ratio, self.c_cap)
            seen = temporal_differences(
                tree, value, returns, discount=self.discount, carry=carry, weight=rho, bootstrap=self.bootstrap
            )
            advantages = np.where(mask, rho * (seen.delta + self.discount * seen.following), 0.0)
            credits.append(Credit(advantages, mask, np.where(mask, seen.before + seen.total, 0.0)))
        return standardise_step(credits) if self.standardise else credits


@dataclass(frozen=True)
class Retrace(VTrace):
    """V-trace with rho = w, c = decay min(w, 1): V^pi is the fixed point whatever mu is.

    No difference is cut, only traces are.

    Retrace is about action values. Here a state is the text so far, so the value of an action is that of the state
    that it leads to, Q_t = r_t + discount V(s_t+1), and one critic of states has said both. What its definition
    (`retrace`) takes the mean over all actions for, E_(a ~ pi) Q(s_t+1, a), is estimated from the one that was drawn,
    V(s_t+1) + w_t+1 (Q_t+1 - V(s_t+1)): unbiased, and exactly V where V is. With these, its target for Q_t is
    r_t + discount v_t+1, with the v of this module.

    A weight is not bounded, products of weights are: where pi and mu are far apart `VTrace` has less noise.

    Attributes:
        rho_cap: none; the others as in `VTrace`.

    Source: Munos et al. 2016, arXiv 1606.02647, equations 3 and 4.
    """

    rho_cap: float = math.inf
