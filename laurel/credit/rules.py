"""Credit rules whose values come from the rollouts themselves: nothing to learn, nothing to load.

All read advantage(branch) = value(its end) - value(its start), with value(end) the mean return of the rollouts below
(`laurel.credit.fans`) and value(start) as each rule says. Every policy token of a branch gets the same advantage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from laurel.credit.credit import Credit
from laurel.credit.fans import Comparison, branch_advantages, segment_values, spread
from laurel.credit.groups import leave_one_out, sibling_mean, standardised
from laurel.credit.returns import Returns, TotalReward
from laurel.credit.standardise import standardise_step
from laurel.credit.temporal import check_fractions
from laurel.credit.turns import turn_targets
from laurel.errors import ConfigurationError
from laurel.tree import FloatArray, Source, Tree


@dataclass(frozen=True)
class WholeReturn:
    """value(start) = baseline, a constant: every token gets the whole return of its rollout minus it.

    Exact in expectation for any constant, with the largest variance of all (Williams 1992, REINFORCE). A token that
    several rollouts share gets their mean.
    """

    baseline: float = 0.0
    returns: Returns = field(default_factory=TotalReward)

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        credits = []
        for tree in trees:
            returns = self.returns(tree)
            values = np.nan_to_num(segment_values(tree, returns))
            credits.append(spread(tree, values - self.baseline, ~np.isnan(returns)))
        return credits


@dataclass(frozen=True)
class SiblingMean:
    """value(start) = mean of all siblings: `groups.sibling_mean` at every fan (Dr. GRPO, arXiv 2503.20783)."""

    returns: Returns = field(default_factory=TotalReward)

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        return [_compared(tree, self.returns, sibling_mean) for tree in trees]


@dataclass(frozen=True)
class LeaveOneOut:
    """value(start) = mean of the siblings without oneself: `groups.leave_one_out` at every fan (RLOO, 2402.14740)."""

    returns: Returns = field(default_factory=TotalReward)

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        return [_compared(tree, self.returns, leave_one_out) for tree in trees]


@dataclass(frozen=True)
class Standardised:
    """`groups.standardised` at every fan (GRPO, arXiv 2402.03300): biased, and the same scale for every prompt.

    Attributes:
        ddof: 0 (ours: the deviation of the group, as the paper writes it) or 1 (as `torch.std` in other libraries).
        epsilon: added to the deviation, in units of the return.
    """

    ddof: int = 0
    epsilon: float = 1e-6
    returns: Returns = field(default_factory=TotalReward)

    def __post_init__(self) -> None:
        if self.ddof not in (0, 1):
            raise ConfigurationError(f"ddof must be 0 or 1, got {self.ddof!r}.", hint="0 is the paper's reading.")
        if not self.epsilon >= 0:
            raise ConfigurationError(f"epsilon must not be negative, got {self.epsilon!r}.", hint="such as 1e-6.")

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        def compare(returns: FloatArray) -> FloatArray:
            return standardised(returns, ddof=self.ddof, epsilon=self.epsilon)

        return [_compared(tree, self.returns, compare) for tree in trees]


@dataclass(frozen=True)
class StepStandardised:
    """(R - mean) / deviation over all tokens of the *step*, all prompts together (REINFORCE++, arXiv 2501.03262).

    One scale for all prompts keeps more of the exact direction than one scale per prompt, and needs no siblings.

    Attributes:
        within_group: first subtract the sibling mean at every fan (the paper's "baseline" variant).
        epsilon: added to the deviation (ddof 0), in units of the return.
    """

    within_group: bool = False
    epsilon: float = 1e-8
    returns: Returns = field(default_factory=TotalReward)

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        base: SiblingMean | WholeReturn
        base = SiblingMean(self.returns) if self.within_group else WholeReturn(returns=self.returns)
        return standardise_step(base(trees), epsilon=self.epsilon)


@dataclass(frozen=True)
class GreedyBaseline:
    """value(start) = the return of the greedy rollout of the same prompt: A = R - R(greedy) (ReMax, arXiv 2310.10505).

    The greedy rollout is the one all of whose policy segments were drawn with `top_k=1`; it carries no loss itself, so
    the baseline does not depend on the samples and the expected gradient is exact. A tree whose greedy rollout failed
    or is missing teaches nothing (no baseline is not a baseline of 0).
    """

    returns: Returns = field(default_factory=TotalReward)

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        credits = []
        for tree in trees:
            returns = self.returns(tree)
            greedy = np.array([_is_greedy(tree, leaf) for leaf in tree.leaves])
            known = returns[greedy & ~np.isnan(returns)]
            sampled = np.where(greedy | (len(known) == 0), np.nan, returns)
            baseline = float(known.mean()) if len(known) else 0.0
            values = np.nan_to_num(segment_values(tree, sampled))
            credits.append(spread(tree, values - baseline, ~np.isnan(sampled)))
        return credits


@dataclass(frozen=True)
class RewardToGo:
    """What is still to come: A = sum over the rewards from the token's own segment on, discounted by turns - baseline.

    Rewards that came before a token cannot have been caused by it; leaving them out keeps the gradient exact (at
    discount 1) with less noise. Process scores that stand as rewards on the policy segments of their steps are summed
    the same way: a step gets its own score and those of the steps after it (arXiv 2402.03300, section 4.1.3).

    Attributes:
        discount: per turn, in [0, 1]; a turn lasts from one observation to the next.
        baseline: a constant, in units of the return.
    """

    discount: float = 1.0
    baseline: float = 0.0
    returns: Returns = field(default_factory=TotalReward)

    def __post_init__(self) -> None:
        check_fractions(discount=self.discount)

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        credits = []
        for tree in trees:
            returns, nothing = self.returns(tree), np.zeros(len(tree.flat))
            targets, _ = turn_targets(tree, nothing, returns, discount=self.discount)
            credits.append(spread(tree, targets - self.baseline, ~np.isnan(returns)))
        return credits


@dataclass(frozen=True)
class EveryToken:
    """The same advantage for every policy token that did not fail, graded or not: demonstrations are all good."""

    advantage: float = 1.0

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        credits = []
        for tree in trees:
            outcomes = [tree.segments[leaf].outcome for leaf in tree.leaves]
            live = np.array([outcome is None or not outcome.failed for outcome in outcomes])
            credits.append(spread(tree, np.full(len(tree.segments), self.advantage), live))
        return credits


@dataclass(frozen=True)
class GivenAnswers:
    """Advantage 1 for every policy token that nobody drew, 0 and no loss for those that somebody did.

    For answers that stand beside the turns of a rollout: those say where the policy went, not what is right there.
    """

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        credits = []
        for tree in trees:
            given = np.array([segment.sampling is None for segment in tree.segments])
            mask = tree.flat.policy & given[tree.flat.segment]
            credits.append(Credit(mask.astype(np.float64), mask))
        return credits


def _is_greedy(tree: Tree, leaf: int) -> bool:
    drawn = [tree.segments[index].sampling for index in tree.path(leaf) if tree.segments[index].source is Source.POLICY]
    return bool(drawn) and all(sampling is not None and sampling.top_k == 1 for sampling in drawn)


def _compared(tree: Tree, returns: Returns, compare: Comparison) -> Credit:
    earned = returns(tree)
    return spread(tree, branch_advantages(tree, earned, compare), ~np.isnan(earned))
