"""What is taken off the reward before credit is given: nearness to a reference, and a bound on a second reward.

Unlike a regulariser, a penalty is part of the return: baselines, critics and standardisation see it, and its gradient
holds how a token changes everything after it. It is a number to the loss, without gradient of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from laurel.credit import policy_lengths, with_scores, with_token_rewards
from laurel.errors import ConfigurationError, RewardError
from laurel.objectives.control import Control, DualAscent
from laurel.objectives.reductions import live_rollouts
from laurel.tree import BoolArray, FloatArray, Score, Tree

ANSWER_TOKENS = "answer_tokens"
"""What a budget on the length of answers is called; no reward has to count it."""

REWARD_ESTIMATORS = ("k1", "exact")


class Penalty(Protocol):
    """A tree to the same tree with something taken off its rewards, which credit is given for.

    One that reads the reference says so by `needs_reference`, and by `needs_divergence` if it wants the exact KL at
    every state in place of the log-ratio of the drawn token.
    """

    def applied(self, tree: Tree, divergences: FloatArray | None) -> Tree:
        """The tree that credit is given for.

        Args:
            divergences: [T] log pi - log ref of the drawn tokens, or the exact KL at their states; NaN where a token
                was not scored; None where nobody asks for it.
        """
        ...


@dataclass(frozen=True)
class KLReward:
    """r_t <- r_t - coefficient * (log pi(a_t|s_t) - log ref(a_t|s_t)): KL to the reference in the reward.

    Over a rollout the log-ratios sum to that of the whole rollout, so the expected gradient of the return is exactly
    that of E[R] - coefficient * KL(pi, ref) over whole rollouts, whose maximum is ref exp(R / coefficient) / Z: the
    gradient of the log-ratio itself has expectation 0 and is rightly left out.

    k2 and k3 are refused here. Their value is (nearly) that of the KL, but as a reward only the score function
    differentiates them, and what is missing is not 0: at one state E[k3 grad log pi] = grad KL(pi, ref) -
    grad KL(ref, pi), which vanishes to first order near the reference, as E[k2 grad log pi] does.

    Attributes:
        coefficient: beta >= 0, in units of reward per nat.
        estimator: "k1", the log-ratio of the drawn token; or "exact", the sum over the vocabulary at its state, which
            counts how tokens change the states that follow, and needs `KLPenalty` of the same coefficient and
            estimator in the loss for how they change the distribution at their own state. The two fit together where
            the advantages keep the units of the reward and the reduction is `ConstantLength(1)`.
        control: how the coefficient follows the measured KL; None: it stays.

    Source: InstructGPT, arXiv 2203.02155, equation 2; Ziegler et al. 2019, arXiv 1909.08593, equation 2.
    """

    coefficient: float
    estimator: str = "k1"
    control: Control | None = None

    name = "kl"
    needs_reference = True

    def __post_init__(self) -> None:
        check_coefficient(self.coefficient)
        if self.estimator in ("k2", "k3"):
            raise ConfigurationError(
                f"The KL estimator {self.estimator} loses its gradient inside a reward: it vanishes near the "
                "reference, where it should begin to pull.",
                hint="use 'k1' in the reward, or place the penalty in the loss.",
            )
        if self.estimator not in REWARD_ESTIMATORS:
            raise ConfigurationError(f"Unknown KL estimator {self.estimator!r}.", hint="use 'k1' or 'exact'.")

    @property
    def needs_divergence(self) -> bool:
        """Whether it reads the sum over the vocabulary rather than the drawn token."""
        return self.estimator == "exact"

    def token_rewards(self, divergences: FloatArray) -> FloatArray:
        """What is added to the reward of each token, [T].

        Args:
            divergences: [T] log-ratio to the reference, or the exact KL at the token's state; NaN, where there is
                none, gives 0.
        """
        return -self.coefficient * np.nan_to_num(divergences)

    def applied(self, tree: Tree, divergences: FloatArray | None) -> Tree:
        """See `Penalty`.

        Raises:
            ConfigurationError: without a reference to compare with.
        """
        if divergences is None:
            raise ConfigurationError(
                "A KL penalty needs a reference policy, and there is none.", hint="name one, or set kl to 0."
            )
        return with_token_rewards(tree, self.token_rewards(divergences))


@dataclass(frozen=True)
class Budget:
    """E[part] <= at_most (or >= at_least), as a second reward with a Lagrange multiplier that finds its own size.

    R <- R - c part (or + c part), and after every update c <- max(0, c + rate (mean part - at_most)), or with
    (at_least - mean part): see `DualAscent`. The mean is over the rollouts that were learned from.

    Attributes:
        part: a named part of the score (`laurel.rewards.weighted` keeps the parts; one of weight 0 counts for nothing
            but this; a reward of one's own says by `laurel.rewards.gives_parts` which it has), or "answer_tokens", the
            number of tokens that the policy wrote.
        at_most, at_least: the bound, in units of the part; one of the two.
        rate: how much the multiplier changes per update and per unit that the bound is missed by.
        coefficient: the multiplier at the start, at least 0.
    """

    part: str
    at_most: float | None = None
    at_least: float | None = None
    rate: float = field(kw_only=True)
    coefficient: float = 0.0

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ConfigurationError(
                f"budget: the part '{self.part}' needs one of 'at_most' and 'at_least'.",
                hint=f"such as at_most=50 for {ANSWER_TOKENS}.",
            )
        check_coefficient(self.coefficient, "The multiplier of a budget")
        self.control  # noqa: B018  its bound and rate are checked where they are read

    @property
    def name(self) -> str:
        """What its coefficient and measurements are called."""
        return f"budget/{self.part}"

    @property
    def sign(self) -> float:
        """1 for an upper bound, -1 for a lower one: sign * part <= sign * bound."""
        return 1.0 if self.at_most is not None else -1.0

    @property
    def control(self) -> DualAscent:
        """How the multiplier follows the signed mean of the part."""
        bound = self.at_most if self.at_most is not None else self.at_least
        assert bound is not None
        return DualAscent(self.sign * bound, self.rate)

    def amounts(self, tree: Tree) -> FloatArray:
        """The part of every rollout, [R]; NaN where a rollout failed.

        Raises:
            RewardError: if a score has no such part.
        """
        lengths = policy_lengths(tree)
        amounts = np.full(len(tree.leaves), np.nan)
        for index, rollout in enumerate(tree.rollouts):
            outcome = rollout.outcome
            if outcome is None or outcome.failed or not isinstance(outcome.score, Score):
                continue
            if self.part != ANSWER_TOKENS and self.part not in outcome.score.parts:
                known = ", ".join(sorted(outcome.score.parts)) or "none"
                raise RewardError(
                    f"budget: the score of rollout {rollout.id} has no part '{self.part}' (it has: {known}).",
                    hint="add it to laurel.rewards.weighted(...), with weight 0 if it is only bounded.",
                )
            amounts[index] = lengths[index] if self.part == ANSWER_TOKENS else outcome.score.parts[self.part]
        return amounts

    def rollout_rewards(self, tree: Tree) -> FloatArray:
        """What is added to the score of each rollout, [R]; NaN where it failed."""
        return -self.coefficient * self.sign * self.amounts(tree)

    def applied(self, tree: Tree, divergences: FloatArray | None) -> Tree:
        """See `Penalty`."""
        return with_scores(tree, self.rollout_rewards(tree))

    def measured(self, trees: Sequence[Tree], masks: Sequence[BoolArray]) -> tuple[float, int]:
        """The sum of the part over the rollouts that carry loss, and how many they are.

        What is only there to compare with (greedy answers, continuations) is not counted.

        Args:
            masks: [T] per tree, as in its credit.
        """
        pairs = zip(trees, masks, strict=True)
        amounts = np.concatenate(
            [np.empty(0), *(self.amounts(tree)[live_rollouts(tree, mask)] for tree, mask in pairs)]
        )
        return float(amounts.sum()), len(amounts)


def check_coefficient(coefficient: float, what: str = "The KL coefficient") -> None:
    """A coefficient is finite and not negative.

    Raises:
        ConfigurationError: this one is not.
    """
    if not 0 <= coefficient < math.inf:
        raise ConfigurationError(
            f"{what} must not be negative, and finite, got {coefficient!r}.", hint="0 switches it off."
        )
