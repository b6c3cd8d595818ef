"""Credit rules that read a critic: generalised advantage estimation, and advantages of whole turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from laurel.credit.credit import Credit
from laurel.credit.fans import live_segments
from laurel.credit.returns import Returns, TotalReward
from laurel.credit.standardise import standardise_step
from laurel.credit.temporal import check_fractions, temporal_differences
from laurel.credit.turns import turn_targets
from laurel.tree import BoolArray, FloatArray, Tree


class CriticRule(Protocol):
    """Trees and the value after each of their tokens ([T] per tree) to credit, with targets for the critic.

    `needs_values` is True, so that whoever runs an algorithm knows which of the two protocols its credit follows.
    """

    needs_values: bool

    def __call__(self, trees: Sequence[Tree], values: Sequence[FloatArray]) -> list[Credit]: ...


@dataclass(frozen=True)
class GeneralisedAdvantage:
    """A_t = sum_k (discount * decay)^k delta_t+k, with delta_t = r_t + discount V(s_t+1) - V(s_t).

    decay 1: the return minus V(s_t); unbiased whatever V is. decay 0: one temporal difference; exact only if V is.
    Token prefixes never merge, so in one turn bootstrapping gains nothing and the default decay is 1; it earns its
    place where states merge, in multi-turn tasks. The critic is fitted to V(s_t) + A_t, taken at its own decay.

    Attributes:
        decay: lambda of the policy, in [0, 1].
        critic_decay: lambda of the critic's targets; None for the same (decoupled: VC-PPO, arXiv 2503.01491).
        discount: gamma per decision, in [0, 1].
        standardise: subtract the mean over all tokens of the step, divide by the deviation (customary in PPO; biased).
        bootstrap: whether a rollout that a limit cut off is worth, beyond what it earned, what the critic says after
            its last token. False where the limit belongs to the task: see `laurel.ppo`.

    Source: Schulman et al. 2016, arXiv 1506.02438, equation 16.
    """

    decay: float = 1.0
    critic_decay: float | None = None
    discount: float = 1.0
    standardise: bool = False
    bootstrap: bool = True
    returns: Returns = field(default_factory=TotalReward)

    needs_values = True

    def __post_init__(self) -> None:
        check_fractions(decay=self.decay, critic_decay=self.critic_decay, discount=self.discount)

    def __call__(self, trees: Sequence[Tree], values: Sequence[FloatArray]) -> list[Credit]:
        credits = []
        for tree, value in zip(trees, values, strict=True):
            returns = self.returns(tree)
            differences = partial(
                temporal_differences, tree, value, returns, discount=self.discount, bootstrap=self.bootstrap
            )
            policy = critic = differences(carry=self.decay)
            if self.critic_decay is not None and self.critic_decay != self.decay:
                critic = differences(carry=self.critic_decay)
            mask = policy_mask(tree, returns)
            targets = np.where(mask, critic.before + critic.total, 0.0)
            credits.append(Credit(policy.total, mask, targets))
        return standardise_step(credits) if self.standardise else credits


@dataclass(frozen=True)
class TurnAdvantage:
    """One advantage per turn: the turn is the action, its tokens share what it was worth.

    A(turn) = r + discount (V(next turn's start) + decay A(next turn)) - V(its start), where r is everything paid from
    its first token to the next turn's. Discount and decay count turns, not tokens.

    Attributes:
        decay, discount: in [0, 1].
        critic_decay: lambda of the critic's targets; None for the same.
        bootstrap: as in `GeneralisedAdvantage`.

    Source: ArCHer's utterance level, arXiv 2402.19446, section 3.
    """

    decay: float = 1.0
    discount: float = 1.0
    critic_decay: float | None = None
    bootstrap: bool = True
    returns: Returns = field(default_factory=TotalReward)

    needs_values = True

    def __post_init__(self) -> None:
        check_fractions(decay=self.decay, critic_decay=self.critic_decay, discount=self.discount)

    def __call__(self, trees: Sequence[Tree], values: Sequence[FloatArray]) -> list[Credit]:
        credits = []
        for tree, value in zip(trees, values, strict=True):
            returns = self.returns(tree)
            leads_to = partial(turn_targets, tree, value, returns, discount=self.discount, bootstrap=self.bootstrap)
            worth, starts = leads_to(decay=self.decay)
            targets = worth
            if self.critic_decay is not None and self.critic_decay != self.decay:
                targets, _ = leads_to(decay=self.critic_decay)
            mask, flat = policy_mask(tree, returns), tree.flat
            advantages = np.where(mask, (worth - starts)[flat.segment], 0.0)
            credits.append(Credit(advantages, mask, np.where(mask, targets[flat.segment], 0.0)))
        return credits


def policy_mask(tree: Tree, returns: FloatArray) -> BoolArray:
    """The policy tokens below which a rollout has a return, [T]."""
    mask: BoolArray = tree.flat.policy & live_segments(tree, ~np.isnan(returns))[tree.flat.segment]
    return mask
