"""Fans, branches and shares on trees drawn by hand and at random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credit import branch_advantages, leave_one_out, rollout_shares, segment_values
from laurel.credit.fans import live_segments
from laurel.theory import random_tree
from laurel.tree import Ending, Outcome, Score, Segment, Source, Tree

seeds = st.integers(0, 10_000)


def leaf(parent: int, score: float, source: Source = Source.POLICY) -> Segment:
    return Segment(source, [7], parent, outcome=Outcome(Ending.TERMINATED, "stop", Score(score)))


@pytest.fixture
def branching() -> Tree:
    """prompt -> a (1), prompt -> b -> c (1), b -> d (0): the example of the module."""
    prompt = Segment(Source.PROMPT, [1, 2], -1)
    return Tree("t", "t", (prompt, leaf(0, 1), Segment(Source.POLICY, [3, 4], 0), leaf(2, 1), leaf(2, 0)))


def test_hand_computed(branching):
    returns = np.array([1.0, 1.0, 0.0])
    assert segment_values(branching, returns).tolist() == [0.75, 1, 0.5, 1, 0]
    assert branch_advantages(branching, returns, leave_one_out).tolist() == [0, 0.5, -0.5, 1, -1]
    assert rollout_shares(branching, np.ones(3, np.bool_)).tolist() == [0.5, 0.25, 0.25]


def test_a_fan_weighs_its_children_equally_not_its_leaves(branching):
    # Mean over the leaves would be 2/3: it would let the number of branches, which may depend on what was drawn, vote.
    assert segment_values(branching, np.array([1.0, 1.0, 0.0]))[0] == 0.75


def test_a_failed_branch_dissolves_its_fan(branching):
    returns = np.array([1.0, 0.5, np.nan])
    assert segment_values(branching, returns)[:4].tolist() == [0.75, 1, 0.5, 0.5]
    # Without d there is one branch b-c, compared with a as a whole: no second fan.
    assert branch_advantages(branching, returns, leave_one_out)[:4].tolist() == [0, 0.5, -0.5, -0.5]
    assert rollout_shares(branching, ~np.isnan(returns)).tolist() == [0.5, 0.5, 0]


def test_nothing_live():
    tree = Tree("t", "t", (Segment(Source.PROMPT, [1], -1), leaf(0, 0), leaf(0, 1)))
    none = np.zeros(2, np.bool_)
    assert not live_segments(tree, none).any()
    assert rollout_shares(tree, none).tolist() == [0, 0]
    assert np.isnan(segment_values(tree, np.full(2, np.nan))).all()


@given(seeds)
def test_shares_sum_to_one_and_average_to_the_value_of_the_root(seed):
    generator = np.random.default_rng(seed)
    tree = random_tree(generator)
    returns = np.where(generator.random(len(tree.leaves)) < 0.3, np.nan, generator.normal(size=len(tree.leaves)))
    live = ~np.isnan(returns)
    shares = rollout_shares(tree, live)
    assert shares.sum() == pytest.approx(float(live.any()), abs=1e-12)
    assert (shares[~live] == 0).all()
    if live.any():
        assert shares[live] @ returns[live] == pytest.approx(segment_values(tree, returns)[0], abs=1e-12)


@given(seeds)
def test_advantages_of_a_fan_sum_to_zero(seed):
    generator = np.random.default_rng(seed)
    tree = random_tree(generator)
    returns = generator.normal(size=len(tree.leaves))
    advantages = branch_advantages(tree, returns, leave_one_out)
    for children in tree.children:
        if len(children) > 1:
            assert abs(advantages[list(children)].sum()) < 1e-9
