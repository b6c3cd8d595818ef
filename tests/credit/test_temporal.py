"""Temporal differences along the tree: by hand, against the definition written out path by path, and poisoned."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credit import TotalReward, rollout_shares, temporal_differences
from laurel.errors import ConfigurationError
from laurel.theory import random_tree
from laurel.tree import Ending, FloatArray, Outcome, Score, Segment, Source, Tree

NAN = float("nan")
seeds = st.integers(0, 10_000)
fractions = st.sampled_from([0.0, 0.3, 0.9, 1.0])


def dialogue(observed: int = 3, ending: Ending = Ending.TERMINATED) -> Tree:
    """prompt (2), policy a b, observation that pays 0.5, policy c d that scores 1."""
    return Tree(
        "t",
        "t",
        (
            Segment(Source.PROMPT, [1, 1], -1),
            Segment(Source.POLICY, [2, 3], 0),
            Segment(Source.ENVIRONMENT, [4] * observed, 1, reward=0.5),
            Segment(Source.POLICY, [5, 6], 2, outcome=Outcome(ending, "stop", Score(1.0))),
        ),
    )


def values(observed: int = 3) -> FloatArray:
    """Values after the prompt, a, the observation, c and d; NaN wherever nothing may be read."""
    return np.array([NAN, 0.6, 0.8, NAN, *[NAN] * (observed - 1), 0.4, 0.7, 9.0])


def test_hand_computed_with_discount_and_decay():
    # delta: a 0.9*0.8 - 0.6 = 0.12; b 0.5 + 0.9*0.4 - 0.8 = 0.06; c 0.9*0.7 - 0.4 = 0.23; d 1 + 0 - 0.7 = 0.3
    # total with 0.9 * 0.5 = 0.45: d 0.3; c 0.23 + 0.135 = 0.365; b 0.06 + 0.16425 = 0.22425; a 0.12 + 0.1009125
    seen = temporal_differences(dialogue(), values(), np.array([1.5]), discount=0.9, carry=0.5)
    np.testing.assert_allclose(seen.delta, [0, 0, 0.12, 0.06, 0, 0, 0, 0.23, 0.3], atol=1e-15)
    np.testing.assert_allclose(seen.total, [0, 0, 0.2209125, 0.22425, 0, 0, 0, 0.365, 0.3], atol=1e-15)
    np.testing.assert_allclose(seen.following, [0, 0, 0.22425, 0.365, 0, 0, 0, 0.3, 0], atol=1e-15)
    np.testing.assert_allclose(seen.before, [0, 0, 0.6, 0.8, 0, 0, 0, 0.4, 0.7])


def test_a_truncated_rollout_bootstraps_and_a_terminated_one_does_not():
    ended = temporal_differences(dialogue(), values(), np.array([1.5]))
    cut = temporal_differences(dialogue(ending=Ending.TRUNCATED), values(), np.array([1.5]))
    np.testing.assert_allclose(ended.total[[2, 3, 7, 8]], [1.5 - 0.6, 1.5 - 0.8, 1 - 0.4, 1 - 0.7])
    np.testing.assert_allclose((cut.total - ended.total)[[2, 3, 7, 8]], 9.0)
    # Where the limit is a rule of the task nothing follows, and V after the last token is not read.
    unread = np.where(np.arange(9) == 8, NAN, values())
    over = temporal_differences(dialogue(ending=Ending.TRUNCATED), unread, np.array([1.5]), bootstrap=False)
    np.testing.assert_array_equal(over.total, ended.total)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.95, 1.0])
def test_a_hundred_observed_tokens_change_nothing(decay):
    # The classic fault bootstraps through zeroed observations: the sign of the first turn's advantage flips.
    short = temporal_differences(dialogue(1), values(1), np.array([1.5]), discount=0.99, carry=decay)
    long = temporal_differences(dialogue(100), values(100), np.array([1.5]), discount=0.99, carry=decay)
    np.testing.assert_array_equal(short.total[short.total != 0], long.total[long.total != 0])
    assert (long.total[2:4] > 0).all()
    assert not long.total[4:104].any()


def path_by_path(tree: Tree, after: FloatArray, discount: float, carry: FloatArray, weight: FloatArray) -> FloatArray:
    """The definition, rollout by rollout, with every product written out; forks averaged by share."""
    returns, flat = TotalReward()(tree), tree.flat
    shares = rollout_shares(tree, ~np.isnan(returns))
    total, mass = np.zeros(len(flat)), np.zeros(len(flat))
    for leaf, earned, share in zip(tree.leaves, returns, shares, strict=True):
        if np.isnan(earned):
            continue
        path = tree.path(leaf)
        tokens = [t for s in path for t in range(flat.starts[s], flat.ends[s])]
        paid = dict.fromkeys(tokens, 0.0)
        for s in path:
            paid[flat.ends[s] - 1] += tree.segments[s].reward
        paid[tokens[-1]] += earned - sum(tree.segments[s].reward for s in path)
        decisions = [i for i, t in enumerate(tokens) if flat.policy[t]]
        deltas = []
        for here, there in zip(decisions, [*decisions[1:], len(tokens)], strict=True):
            reward = sum(paid[tokens[i]] for i in range(here, there))
            truncated = tree.segments[leaf].outcome.ending is Ending.TRUNCATED
            onward = after[tokens[there - 1]] if there < len(tokens) or truncated else 0.0
            deltas.append(reward + discount * onward - after[tokens[here - 1]])
        drawn = [tokens[i] for i in decisions]
        for first, token in enumerate(drawn):
            factor = 1.0
            for later in range(first, len(drawn)):
                total[token] += share * factor * weight[drawn[later]] * deltas[later]
                factor *= discount * carry[drawn[later]]
            mass[token] += share
    return np.divide(total, mass, out=np.zeros_like(total), where=mass > 0)


@given(seeds, fractions, fractions)
def test_equals_the_definition_written_out(seed, discount, decay):
    generator = np.random.default_rng(seed)
    tree = random_tree(generator)
    after = generator.normal(size=len(tree.flat))
    # A carry or a weight per token, as V-trace needs: the reference multiplies them along each path.
    carry, weight = decay * generator.random(len(tree.flat)), generator.random(len(tree.flat))
    for carries, weights in ((carry, weight), (np.full(len(tree.flat), decay), np.ones(len(tree.flat)))):
        seen = temporal_differences(tree, after, TotalReward()(tree), discount=discount, carry=carries, weight=weights)
        expected = path_by_path(tree, after, discount, carries, weights)
        np.testing.assert_allclose(seen.total, expected, atol=1e-9)


@given(seeds)
def test_without_decay_and_discount_it_is_the_return_minus_the_value(seed):
    generator = np.random.default_rng(seed)
    tree = random_tree(generator, fan=1, failing=0.0)
    after = generator.normal(size=len(tree.flat))
    earned = TotalReward()(tree)
    seen = temporal_differences(tree, after, earned)
    leaf = tree.leaves[0]
    bootstrap = after[-1] if tree.segments[leaf].outcome.ending is Ending.TRUNCATED else 0.0
    paid = np.cumsum([0.0, *(segment.reward for segment in tree.segments)])
    for token in np.flatnonzero(tree.flat.policy):
        to_go = earned[0] - paid[tree.flat.segment[token]] + bootstrap
        assert seen.total[token] == pytest.approx(to_go - after[token - 1], abs=1e-9)


def test_the_wrong_number_of_values_is_an_error():
    with pytest.raises(ConfigurationError, match="tokens"):
        temporal_differences(dialogue(), values()[1:], np.array([1.5]))
