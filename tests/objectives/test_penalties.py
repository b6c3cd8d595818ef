"""What is taken off the reward: by hand on a small group."""

from dataclasses import replace

import numpy as np
import pytest

from laurel.errors import ConfigurationError, RewardError
from laurel.objectives import Budget, DualAscent, KLReward, Proportional
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree


def group() -> Tree:
    """Answers of 2, 1 and 3 tokens; the last one failed."""
    scores = [Score(1.0, {"right": 1.0, "brief": 0.5}), Score(0.0, {"right": 0.0, "brief": 1.0}), Failed("broken")]
    answers = [
        Segment(Source.POLICY, np.arange(length), 0, outcome=Outcome(Ending.TERMINATED, "end", score))
        for length, score in zip((2, 1, 3), scores, strict=True)
    ]
    return Tree("group", "group", (Segment(Source.PROMPT, [7], -1), *answers))


def test_kl_by_hand():
    log_ratios = np.array([np.nan, 0.5, -1.0, 0.0])
    assert KLReward(0.2).token_rewards(log_ratios).tolist() == pytest.approx([0.0, -0.1, 0.2, 0.0])
    assert KLReward(0.2, "exact").needs_divergence and not KLReward(0.2).needs_divergence


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_estimators_that_lose_their_gradient_in_a_reward_are_refused(estimator):
    with pytest.raises(ConfigurationError, match=f"estimator {estimator} loses its gradient"):
        KLReward(0.1, estimator)


@pytest.mark.parametrize(("coefficient", "estimator"), [(-0.1, "k1"), (float("nan"), "k1"), (0.1, "k9")])
def test_nonsense_is_refused(coefficient, estimator):
    with pytest.raises(ConfigurationError):
        KLReward(coefficient, estimator)


@pytest.mark.parametrize(
    ("budget", "amounts", "rewards", "measured", "control"),
    [
        (Budget("answer_tokens", at_most=1.2, rate=0.1, coefficient=0.5), [2, 1], [-1.0, -0.5], 1.5, (1.2, 1.5)),
        (Budget("brief", at_least=0.9, rate=0.1, coefficient=2.0), [0.5, 1.0], [1.0, 2.0], 0.75, (-0.9, -0.75)),
        (Budget("right", at_most=0.1, rate=0.1), [1, 0], [0.0, 0.0], 0.5, (0.1, 0.5)),
    ],
)
def test_budgets_by_hand(budget, amounts, rewards, measured, control):
    tree = group()
    assert budget.amounts(tree)[:2].tolist() == amounts
    assert budget.rollout_rewards(tree)[:2].tolist() == rewards
    assert np.isnan(budget.amounts(tree)[2]) and np.isnan(budget.rollout_rewards(tree)[2])
    everything = tree.flat.policy
    assert budget.measured([tree, tree], [everything, everything]) == (4 * measured, 4)
    first = everything & (tree.flat.segment == 1)  # the second answer is only there to compare with
    assert budget.measured([tree], [first]) == (amounts[0], 1)
    bound, seen = control
    assert budget.control == DualAscent(bound, 0.1)
    assert budget.control(0.5, seen) == pytest.approx(0.5 + 0.1 * (seen - bound))


def test_a_part_that_no_score_has_is_named_with_those_that_it_has():
    with pytest.raises(RewardError, match=r"no part 'safe' \(it has: brief, right\)") as refused:
        Budget("safe", at_most=0, rate=1).amounts(group())
    assert "weighted" in refused.value.hint


@pytest.mark.parametrize(
    "settings",
    [
        {"rate": 0.1},
        {"at_most": 1, "at_least": 0, "rate": 0.1},
        {"at_most": 1, "rate": 0.0},
        {"at_most": float("inf"), "rate": 0.1},
        {"at_most": 1, "rate": 0.1, "coefficient": -1.0},
    ],
)
def test_a_budget_that_bounds_nothing_is_refused(settings):
    with pytest.raises(ConfigurationError):
        Budget("answer_tokens", **settings)


def test_a_live_coefficient_is_the_same_penalty_with_another_number():
    penalty = KLReward(0.2, control=Proportional(0.02))
    assert replace(penalty, coefficient=0.3).token_rewards(np.array([1.0])).tolist() == pytest.approx([-0.3])
    assert replace(penalty, coefficient=0.3).control == penalty.control
