"""Rewards added before credit: totals, timing inside a segment, and what stays untouched."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laurel.credit import GeneralisedAdvantage, TotalReward, temporal_differences, with_scores, with_token_rewards
from laurel.errors import TreeError
from laurel.theory import random_tree
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree


def dialogue() -> Tree:
    """prompt - policy (2 tokens, paid 1) - environment (paid 2) - policy (1 token, score 4) and a failed sibling."""
    ended = Outcome(Ending.TERMINATED, "end", Score(4.0))
    broken = Outcome(Ending.TERMINATED, "end", Failed("broken"))
    return Tree(
        "talk",
        "talk",
        (
            Segment(Source.PROMPT, [9], -1),
            Segment(Source.POLICY, [1, 2], 0, reward=1.0),
            Segment(Source.ENVIRONMENT, [8, 8], 1, reward=2.0),
            Segment(Source.POLICY, [3], 2, outcome=ended),
            Segment(Source.POLICY, [4], 0, outcome=broken),
        ),
    )


ADDED = np.array([np.nan, -0.1, -0.2, np.nan, np.nan, -0.4, -5.0])


def test_totals_and_timing_by_hand():
    shaped = with_token_rewards(dialogue(), ADDED)
    assert TotalReward()(shaped)[0] == pytest.approx(1 + 2 + 4 - 0.7)
    assert np.isnan(TotalReward()(shaped)[1])
    assert shaped.segments[1].token_rewards.tolist() == pytest.approx([-0.1, 0.8])
    # No critic, decay 1: what is still to come after each token, the reward that came with it included.
    (credit,) = GeneralisedAdvantage()([shaped], [np.zeros(7)])
    assert credit.advantages.tolist() == pytest.approx([0, 6.3, 6.4, 0, 0, 3.6, 0])
    # decay 0: only what came with the token itself (the observation's pay arrives with the token before it).
    (credit,) = GeneralisedAdvantage(decay=0.0)([shaped], [np.zeros(7)])
    assert credit.advantages.tolist() == pytest.approx([0, -0.1, 2.8, 0, 0, 3.6, 0])


def test_added_twice_is_added_up():
    once, twice = (
        with_token_rewards(dialogue(), 2 * ADDED),
        with_token_rewards(with_token_rewards(dialogue(), ADDED), ADDED),
    )
    for one, other in zip(once.segments, twice.segments, strict=True):
        assert one.reward == pytest.approx(other.reward, abs=1e-12)
    assert twice.segments[1].token_rewards.tolist() == pytest.approx([-0.2, 0.6])


def test_a_cut_segment_keeps_its_timing():
    shaped = with_token_rewards(dialogue(), ADDED)
    cut = shaped.split(1, 1)
    assert [segment.reward for segment in cut.segments[1:3]] == pytest.approx([-0.1, 0.8])
    nothing = np.zeros(7)
    whole = temporal_differences(shaped, nothing, TotalReward()(shaped), carry=0.5)
    halves = temporal_differences(cut, nothing, TotalReward()(cut), carry=0.5)
    np.testing.assert_allclose(halves.total, whole.total, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_on_any_tree_token_rewards_equal_segments_of_one_token(seed):
    """The slow reference: cut every policy segment into single tokens that are paid one by one."""
    draw = np.random.default_rng(seed)
    tree = random_tree(draw)
    added = draw.normal(size=len(tree.flat))
    shaped, cut = with_token_rewards(tree, added), tree
    index = 0
    while index < len(cut.segments):
        if cut.segments[index].source is Source.POLICY and len(cut.segments[index]) > 1:
            cut = cut.split(index, 1)
        index += 1
    paid = with_token_rewards(cut, added)
    returns, values = TotalReward()(shaped), draw.normal(size=len(tree.flat))
    np.testing.assert_allclose(TotalReward()(paid), returns, atol=1e-10)
    for carry in (1.0, 0.6):
        ours = temporal_differences(shaped, values, returns, discount=0.9, carry=carry)
        slow = temporal_differences(paid, values, returns, discount=0.9, carry=carry)
        np.testing.assert_allclose(ours.total, slow.total, atol=1e-10)


def test_scores_are_moved_and_failures_are_not():
    moved = with_scores(dialogue(), np.array([-1.5, np.nan]))
    assert moved.segments[3].outcome.score.value == 2.5
    assert moved.segments[4].outcome.score == Failed("broken")


@pytest.mark.parametrize("added", [np.zeros(6), np.full(7, np.nan)])
def test_what_does_not_fit_is_refused(added):
    with pytest.raises(TreeError, match="token rewards"):
        with_token_rewards(dialogue(), added)
    with pytest.raises(TreeError, match="do not spread"):
        Segment(Source.POLICY, [1, 2], 0, reward=1.0, token_rewards=np.array([1.0, 1.0]))
