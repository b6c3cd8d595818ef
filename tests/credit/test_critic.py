"""Rules that read a critic: identities, hand-computed targets, and the invariances of every rule."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from laurel.credit import (
    Credit,
    GeneralisedAdvantage,
    Retrace,
    TotalReward,
    TurnAdvantage,
    VTrace,
    temporal_differences,
)
from laurel.errors import ConfigurationError
from laurel.theory import random_tree
from laurel.tree import Ending, FloatArray, Outcome, Score, Segment, Source, Tree

NAN = float("nan")
RULES = [
    GeneralisedAdvantage(),
    GeneralisedAdvantage(decay=0.9, critic_decay=1.0, discount=0.95),
    GeneralisedAdvantage(standardise=True),
    TurnAdvantage(decay=0.9, discount=0.8),
    TurnAdvantage(decay=0.5, critic_decay=1.0, bootstrap=False),
    VTrace(rho_cap=1.2, c_cap=0.9, decay=0.9),
    VTrace(standardise=True),
    Retrace(decay=0.9, discount=0.8),
]
seeds = st.integers(0, 10_000)


def apply(rule, tree: Tree, values: FloatArray, log_ratios: FloatArray) -> Credit:
    extra = ([log_ratios],) if getattr(rule, "needs_log_ratios", False) else ()
    (credit,) = rule([tree], [values], *extra)
    return credit


def two_turns(ending: Ending = Ending.TERMINATED) -> Tree:
    return Tree(
        "t",
        "t",
        (
            Segment(Source.PROMPT, [1], -1),
            Segment(Source.POLICY, [2, 3], 0),
            Segment(Source.ENVIRONMENT, [4, 4], 1, reward=0.5),
            Segment(Source.POLICY, [5, 6], 2, outcome=Outcome(ending, "stop", Score(1.0))),
        ),
    )


VALUES = np.array([0.6, 0.8, NAN, NAN, 0.4, 0.7, 9.0])


def test_the_critic_is_fitted_at_its_own_decay():
    rule = GeneralisedAdvantage(decay=0.0, critic_decay=1.0)
    (credit,) = rule([two_turns()], [VALUES])
    np.testing.assert_allclose(credit.advantages, [0, 0.2, 0.1, 0, 0, 0.3, 0.3], atol=1e-15)
    np.testing.assert_allclose(credit.value_targets, [0, 1.5, 1.5, 0, 0, 1, 1], atol=1e-15)
    (same,) = GeneralisedAdvantage(decay=0.0)([two_turns()], [VALUES])
    np.testing.assert_allclose(same.value_targets, [0, 0.8, 0.9, 0, 0, 0.7, 1], atol=1e-15)  # TD(0): r + V(next)


def test_turns_hand_computed():
    # Second turn: 1 - 0.4 = 0.6. First: 0.5 + 0.9 (0.4 + 0.5 * 0.6) - 0.6 = 0.53. V inside a turn is not read.
    inside = np.array([0.6, NAN, NAN, NAN, 0.4, NAN, NAN])
    (credit,) = TurnAdvantage(decay=0.5, discount=0.9)([two_turns()], [inside])
    np.testing.assert_allclose(credit.advantages, [0, 0.53, 0.53, 0, 0, 0.6, 0.6], atol=1e-15)
    np.testing.assert_allclose(credit.value_targets, [0, 1.13, 1.13, 0, 0, 1, 1], atol=1e-15)


def test_a_truncated_turn_bootstraps():
    (credit,) = TurnAdvantage(discount=0.9)([two_turns(Ending.TRUNCATED)], [VALUES])
    assert credit.advantages[5] == pytest.approx(1 + 0.9 * 9 - 0.4)


@pytest.mark.parametrize("rule", [GeneralisedAdvantage, TurnAdvantage, VTrace, Retrace])
def test_nothing_follows_a_limit_that_belongs_to_the_task(rule):
    unread = np.append(VALUES[:-1], NAN)
    log_ratios = np.zeros(len(unread))
    cut = apply(rule(discount=0.9, bootstrap=False), two_turns(Ending.TRUNCATED), unread, log_ratios)
    ended = apply(rule(discount=0.9), two_turns(), VALUES, log_ratios)
    np.testing.assert_array_equal(cut.advantages, ended.advantages)
    np.testing.assert_array_equal(cut.value_targets, ended.value_targets)


def test_the_critic_of_turns_is_fitted_at_its_own_decay():
    # At decay 0 the first turn is worth 0.5 + 0.9 * 0.4, at 1 it is 0.5 + 0.9 * 1; V before it is 0.6.
    rule = TurnAdvantage(decay=0.0, critic_decay=1.0, discount=0.9)
    (credit,) = rule([two_turns()], [VALUES])
    np.testing.assert_allclose(credit.advantages, [0, 0.26, 0.26, 0, 0, 0.6, 0.6], atol=1e-15)
    np.testing.assert_allclose(credit.value_targets, [0, 1.4, 1.4, 0, 0, 1, 1], atol=1e-15)


def test_a_turn_that_forks_is_one_turn_with_the_mean_of_what_follows():
    done = [Outcome(Ending.TERMINATED, "stop", Score(score)) for score in (1.0, 0.0)]
    forks = [Segment(Source.POLICY, [3], 1, outcome=outcome) for outcome in done]
    tree = Tree("t", "t", (Segment(Source.PROMPT, [1], -1), Segment(Source.POLICY, [2], 0), *forks))
    (credit,) = TurnAdvantage()([tree], [np.array([0.2, NAN, NAN, NAN])])
    np.testing.assert_allclose(credit.advantages, [0, 0.3, 0.8, -0.2])


@pytest.mark.parametrize("rule", [GeneralisedAdvantage, VTrace, Retrace])
def test_standardised_over_the_step(rule):
    trees = [two_turns(), two_turns()]
    extra = () if rule is GeneralisedAdvantage else ([np.full(7, 0.3), np.full(7, -0.2)],)
    credits = rule(standardise=True)(trees, [VALUES, VALUES + 0.1], *extra)
    together = np.concatenate([credit.advantages[credit.mask] for credit in credits])
    assert together.mean() == pytest.approx(0, abs=1e-12)
    assert together.std() == pytest.approx(1, abs=1e-6)
    plain = rule()(trees, [VALUES, VALUES + 0.1], *extra)
    np.testing.assert_array_equal(credits[0].value_targets, plain[0].value_targets)


@pytest.mark.parametrize("rule", [VTrace, Retrace])
def test_on_policy_it_is_the_lambda_return(rule):
    (credit,) = rule(decay=0.7, discount=0.9)([two_turns()], [VALUES], [np.zeros(7)])
    (gae,) = GeneralisedAdvantage(decay=0.7, discount=0.9)([two_turns()], [VALUES])
    np.testing.assert_allclose(credit.value_targets, gae.value_targets, atol=1e-15)
    seen = temporal_differences(two_turns(), VALUES, np.array([1.5]), discount=0.9, carry=0.7)
    np.testing.assert_allclose(credit.advantages, seen.delta + 0.9 * seen.following, atol=1e-15)


def test_v_trace_bounds_its_ratios():
    # One token, ratio 4, rho_cap 2: target V + 2 (R - V), advantage 2 (R - V). Unread ratios are poisoned.
    outcome = Outcome(Ending.TERMINATED, "stop", Score(1.0))
    tree = Tree("t", "t", (Segment(Source.PROMPT, [1], -1), Segment(Source.POLICY, [2], 0, outcome=outcome)))
    (credit,) = VTrace(rho_cap=2.0)([tree], [np.array([0.25, NAN])], [np.array([NAN, np.log(4.0)])])
    np.testing.assert_allclose(credit.value_targets, [0, 1.75])
    np.testing.assert_allclose(credit.advantages, [0, 1.5])


def test_v_trace_bounds_what_it_carries_on_its_own():
    # Two tokens, ratios 4, V = 0, R = 1: rho' = 3, c = 0.5. Target of the second 3, of the first 0 + 0.5 * 3.
    outcome = Outcome(Ending.TERMINATED, "stop", Score(1.0))
    tree = Tree("t", "t", (Segment(Source.PROMPT, [1], -1), Segment(Source.POLICY, [2, 3], 0, outcome=outcome)))
    (credit,) = VTrace(rho_cap=3.0, c_cap=0.5)([tree], [np.zeros(3)], [np.full(3, np.log(4.0))])
    np.testing.assert_allclose(credit.value_targets, [0, 1.5, 3.0])
    np.testing.assert_allclose(credit.advantages, [0, 9.0, 3.0])  # 3 * (v of what follows), 3 * R


@given(seeds, st.randoms(use_true_random=False))
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_splitting_a_segment_changes_nothing(rule, seed, random):
    generator = np.random.default_rng(seed)
    tree = random_tree(generator)
    values, log_ratios = generator.normal(size=(2, len(tree.flat)))
    long = [index for index, segment in enumerate(tree.segments) if len(segment) > 1]
    assume(long)
    where = random.choice(long)
    cut = tree.split(where, random.randrange(1, len(tree.segments[where])))
    whole, parts = apply(rule, tree, values, log_ratios), apply(rule, cut, values, log_ratios)
    np.testing.assert_array_equal(whole.mask, parts.mask)
    np.testing.assert_allclose(whole.advantages, parts.advantages, atol=1e-9)
    np.testing.assert_allclose(whole.value_targets, parts.value_targets, atol=1e-9)


@given(seeds)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_failed_siblings_were_never_sampled(rule, seed):
    generator = np.random.default_rng(seed)
    tree = random_tree(generator, failing=0.4)
    values, log_ratios = generator.normal(size=(2, len(tree.flat)))
    alive = [leaf for leaf in tree.leaves if not tree.segments[leaf].outcome.failed]
    assume(0 < len(alive) < len(tree.leaves))
    kept = sorted({index for leaf in alive for index in tree.path(leaf)})
    place = {old: new for new, old in enumerate(kept)}
    pruned = Tree(
        "p", "p", tuple(replace(tree.segments[i], parent=place.get(tree.segments[i].parent, -1)) for i in kept)
    )
    survive = np.isin(tree.flat.segment, kept)
    poisoned = np.where(survive, values, NAN)
    whole = apply(rule, tree, poisoned, np.where(survive, log_ratios, NAN))
    rest = apply(rule, pruned, values[survive], log_ratios[survive])
    np.testing.assert_array_equal(whole.mask[survive], rest.mask)
    np.testing.assert_allclose(whole.advantages[survive], rest.advantages, atol=1e-9)
    assert not whole.advantages[~whole.mask].any() and not whole.value_targets[~whole.mask].any()


@given(seeds)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_only_values_of_decisions_are_read(rule, seed):
    generator = np.random.default_rng(seed)
    tree = random_tree(generator)
    values, log_ratios = generator.normal(size=(2, len(tree.flat)))
    returns, flat = TotalReward()(tree), tree.flat
    read = np.zeros(len(flat), np.bool_)
    read[flat.parent[flat.policy]] = True
    for leaf, earned in zip(tree.leaves, returns, strict=True):
        read[flat.ends[leaf] - 1] |= tree.segments[leaf].outcome.ending is Ending.TRUNCATED and not np.isnan(earned)
    poisoned = apply(rule, tree, np.where(read, values, NAN), np.where(flat.policy, log_ratios, NAN))
    np.testing.assert_array_equal(poisoned.advantages, apply(rule, tree, values, log_ratios).advantages)


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        (GeneralisedAdvantage, {"decay": 1.1}),
        (GeneralisedAdvantage, {"critic_decay": -0.1}),
        (GeneralisedAdvantage, {"discount": NAN}),
        (TurnAdvantage, {"decay": 2}),
        (TurnAdvantage, {"critic_decay": 1.5}),
        (Retrace, {"discount": 1.5}),
        (VTrace, {"decay": -1}),
        (VTrace, {"c_cap": 2.0}),
        (VTrace, {"c_cap": 0.0}),
    ],
)
def test_nonsense_is_refused(rule, settings):
    with pytest.raises(ConfigurationError):
        rule(**settings)
