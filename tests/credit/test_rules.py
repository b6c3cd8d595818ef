"""Credit rules on trees of every shape: the invariances that every rule must have."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from laurel.credit import (
    EveryToken,
    GreedyBaseline,
    LeaveOneOut,
    RewardToGo,
    SiblingMean,
    Standardised,
    StepStandardised,
    WholeReturn,
)
from laurel.errors import ConfigurationError, TreeError
from laurel.theory import random_tree
from laurel.tree import Ending, Failed, Outcome, Sampling, Score, Segment, Source, Tree

PLAIN = [
    WholeReturn(),
    WholeReturn(baseline=0.5),
    RewardToGo(discount=0.9),
    SiblingMean(),
    LeaveOneOut(),
    Standardised(),
]
RULES = [*PLAIN, StepStandardised(), EveryToken()]
seeds = st.integers(0, 10_000)


def chain_group(*scores: float | None) -> Tree:
    """Two-turn dialogues as siblings: policy 2, environment 3, policy 2 tokens each; None fails."""
    segments = [Segment(Source.PROMPT, [1, 1], -1)]
    for score in scores:
        first = len(segments)
        result = Failed("crash") if score is None else Score(score)
        segments += [
            Segment(Source.POLICY, [2, 3], 0),
            Segment(Source.ENVIRONMENT, [4, 5, 6], first),
            Segment(Source.POLICY, [7, 8], first + 1, outcome=Outcome(Ending.TERMINATED, "stop", result)),
        ]
    return Tree("t", "t", tuple(segments))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (WholeReturn(), [1, 0, 0.5]),
        (WholeReturn(baseline=0.25), [0.75, -0.25, 0.25]),
        (SiblingMean(), [0.5, -0.5, 0]),
        (LeaveOneOut(), [0.75, -0.75, 0]),
        (Standardised(epsilon=0), [1.5**0.5, -(1.5**0.5), 0]),
        (Standardised(ddof=1, epsilon=0), [1, -1, 0]),
        (EveryToken(), [1, 1, 1]),
        (EveryToken(0.5), [0.5, 0.5, 0.5]),
    ],
    ids=str,
)
def test_all_policy_tokens_of_a_dialogue_get_the_advantage_of_their_rollout(rule, expected):
    (credit,) = rule([chain_group(1.0, 0.0, 0.5)])
    assert credit.mask.tolist() == [False] * 2 + [True, True, False, False, False, True, True] * 3
    for index, advantage in enumerate(expected):
        tokens = credit.advantages[2 + 7 * index : 9 + 7 * index]
        np.testing.assert_allclose(tokens, [advantage, advantage, 0, 0, 0, advantage, advantage], atol=1e-15)


def test_shared_tokens_get_the_mean_of_their_live_rollouts():
    score = [Outcome(Ending.TERMINATED, "stop", Score(value)) for value in (1.0, 0.0)]
    failed = Outcome(Ending.TERMINATED, "stop", Failed("crash"))
    shared = [Segment(Source.POLICY, [3], 1, outcome=outcome) for outcome in (*score, failed)]
    tree = Tree("t", "t", (Segment(Source.PROMPT, [1], -1), Segment(Source.POLICY, [2, 2], 0), *shared))
    (credit,) = WholeReturn()([tree])
    assert credit.advantages.tolist() == [0, 0.5, 0.5, 1, 0, 0]
    assert credit.mask.tolist() == [False, True, True, True, True, False]


@given(seeds)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_masks_hold_live_policy_tokens_and_nothing_else(rule, seed):
    tree = random_tree(np.random.default_rng(seed), failing=0.4)
    (credit,) = rule([tree])
    for index, segment in enumerate(tree.segments):
        below = [leaf for leaf in tree.leaves if index in tree.path(leaf)]
        live = segment.source is Source.POLICY and any(not tree.segments[leaf].outcome.failed for leaf in below)
        assert (credit.mask[tree.flat.starts[index] : tree.flat.ends[index]] == live).all()
    assert (credit.advantages[~credit.mask] == 0).all()
    assert np.isfinite(credit.advantages).all()


@given(seeds, st.randoms(use_true_random=False))
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_splitting_a_segment_changes_nothing(rule, seed, random):
    tree = random_tree(np.random.default_rng(seed))
    long = [index for index, segment in enumerate(tree.segments) if len(segment) > 1]
    assume(long)
    where = random.choice(long)
    cut = tree.split(where, random.randrange(1, len(tree.segments[where])))
    (whole,), (parts,) = rule([tree]), rule([cut])
    np.testing.assert_array_equal(whole.mask, parts.mask)
    np.testing.assert_allclose(whole.advantages, parts.advantages, atol=1e-12)


@given(seeds)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_failed_sibling_is_a_sibling_that_was_never_sampled(rule, seed):
    tree = random_tree(np.random.default_rng(seed), failing=0.4)
    alive = [leaf for leaf in tree.leaves if not tree.segments[leaf].outcome.failed]
    assume(0 < len(alive) < len(tree.leaves))
    kept = sorted({index for leaf in alive for index in tree.path(leaf)})
    place = {old: new for new, old in enumerate(kept)}
    pruned = Tree(
        "p", "p", tuple(replace(tree.segments[i], parent=place.get(tree.segments[i].parent, -1)) for i in kept)
    )
    (whole,), (rest,) = rule([tree]), rule([pruned])
    survivors = np.isin(tree.flat.segment, kept)
    np.testing.assert_array_equal(whole.mask[survivors], rest.mask)
    np.testing.assert_allclose(whole.advantages[survivors], rest.advantages, atol=1e-12)
    assert not whole.mask[~survivors].any()


@given(seeds)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_order_of_siblings_is_irrelevant(rule, seed):
    tree = random_tree(np.random.default_rng(seed))
    order = [0]
    for index in order:
        order.extend(reversed(tree.children[index]))
    place = {old: new for new, old in enumerate(order)}
    mirrored = Tree.build(
        "m",
        "m",
        [replace(tree.segments[i], parent=place.get(tree.segments[i].parent, -1), text=str(i)) for i in order],
    )
    (straight,), (turned,) = rule([tree]), rule([mirrored])
    for index, segment in enumerate(mirrored.segments):
        old = int(segment.text)
        here = slice(mirrored.flat.starts[index], mirrored.flat.ends[index])
        there = slice(tree.flat.starts[old], tree.flat.ends[old])
        np.testing.assert_array_equal(turned.mask[here], straight.mask[there])
        np.testing.assert_allclose(turned.advantages[here], straight.advantages[there], atol=1e-9)


@given(seeds)
@pytest.mark.parametrize("rule", [rule for rule in RULES if not isinstance(rule, StepStandardised)], ids=str)
def test_trees_do_not_see_each_other(rule, seed):
    generator = np.random.default_rng(seed)
    trees = [random_tree(generator), random_tree(generator)]
    together = rule(trees)
    for tree, credit in zip(trees, together, strict=True):
        (alone,) = rule([tree])
        np.testing.assert_array_equal(alone.advantages, credit.advantages)


@pytest.mark.parametrize("rule", [SiblingMean(), LeaveOneOut(), Standardised()], ids=str)
@pytest.mark.parametrize("scores", [(1.0,), (1.0, None), (0.3, 0.1 + 0.2, None), (None, None)], ids=str)
def test_groups_without_contrast_carry_no_signal(rule, scores):
    (credit,) = rule([chain_group(*scores)])
    assert not credit.carries_signal
    assert credit.mask.sum() == 4 * sum(score is not None for score in scores)


def test_ungraded_trees_are_an_error_except_for_cloning():
    tree = Tree("t", "t", (Segment(Source.PROMPT, [1], -1), Segment(Source.POLICY, [2, 3], 0)))
    (credit,) = EveryToken()([tree])
    assert credit.advantages.tolist() == [0, 1, 1]
    for rule in RULES[:-1]:
        with pytest.raises(TreeError, match="no reward"):
            rule([tree])


@pytest.mark.parametrize("settings", [{"ddof": 2}, {"epsilon": -1.0}, {"epsilon": float("nan")}])
def test_standardised_refuses_nonsense(settings):
    with pytest.raises(ConfigurationError):
        Standardised(**settings)


def test_step_standardised_uses_one_scale_for_all_prompts():
    # Returns 1 0 | 4 3: mean 2, squares 1 4 4 1, deviation sqrt(2.5). Within groups: +-0.5 everywhere, deviation 0.5.
    trees = [chain_group(1.0, 0.0), chain_group(4.0, 3.0)]
    plain = StepStandardised(epsilon=0)(trees)
    first = [credit.advantages[[2, 9]] for credit in plain]
    np.testing.assert_allclose(np.concatenate(first), np.array([-1, -2, 2, 1]) / np.sqrt(2.5))
    within = StepStandardised(within_group=True, epsilon=0)(trees)
    np.testing.assert_allclose(np.concatenate([credit.advantages[[2, 9]] for credit in within]), [1, -1, 1, -1])


@pytest.mark.parametrize("scores", [(None,), (0.3,), (0.3, 0.1 + 0.2), (None, 1.0)], ids=str)
def test_step_standardised_without_contrast(scores):
    for credit in StepStandardised()([chain_group(*scores), chain_group(*scores)]):
        assert not credit.carries_signal


def with_greedy(score: float | Failed, *others: float) -> Tree:
    """The greedy rollout first, then sampled ones."""
    results = [score if isinstance(score, Failed) else Score(score), *map(Score, others)]
    leaves = [
        Segment(
            Source.POLICY,
            [2, 3],
            0,
            sampling=Sampling(top_k=1) if index == 0 else Sampling(),
            outcome=Outcome(Ending.TERMINATED, "stop", result),
        )
        for index, result in enumerate(results)
    ]
    return Tree("t", "t", (Segment(Source.PROMPT, [1], -1), *leaves))


def test_the_greedy_rollout_is_the_baseline_and_carries_no_loss():
    (credit,) = GreedyBaseline()([with_greedy(0.75, 1.0, 0.0)])
    assert credit.advantages.tolist() == [0, 0, 0, 0.25, 0.25, -0.75, -0.75]
    assert credit.mask.tolist() == [False, False, False, True, True, True, True]


def test_without_a_greedy_return_there_is_no_lesson():
    for tree in (with_greedy(Failed("crash"), 1.0), chain_group(1.0, 0.0)):
        (credit,) = GreedyBaseline()([tree])
        assert not credit.mask.any()


def test_several_greedy_rollouts_are_averaged_and_half_a_greedy_one_is_none():
    # Greedy in both turns: 1 and 0, because the environment differed. Greedy in its first turn only: a sample.
    segments = [Segment(Source.PROMPT, [1], -1)]
    for top_k, score in ((1, 1.0), (1, 0.0), (None, 0.75)):
        end, first = Outcome(Ending.TERMINATED, "stop", Score(score)), len(segments)
        segments += [
            Segment(Source.POLICY, [2], 0, sampling=Sampling(top_k=1)),
            Segment(Source.ENVIRONMENT, [3], first),
            Segment(Source.POLICY, [4], first + 1, sampling=Sampling(top_k=top_k), outcome=end),
        ]
    (credit,) = GreedyBaseline()([Tree("t", "t", tuple(segments))])
    assert credit.advantages.tolist() == [0] * 7 + [0.25, 0, 0.25]
    assert credit.mask.tolist() == [False] * 7 + [True, False, True]


def test_reward_to_go_hand_computed():
    # Two steps of one turn that score 0.25 and 0.5, an observation that pays 1, a second turn that scores 2.
    end = Outcome(Ending.TERMINATED, "stop", Score(2.0))
    tree = Tree(
        "t",
        "t",
        (
            Segment(Source.PROMPT, [1], -1),
            Segment(Source.POLICY, [2, 2], 0, reward=0.25),
            Segment(Source.POLICY, [3], 1, reward=0.5),
            Segment(Source.ENVIRONMENT, [4], 2, reward=1.0),
            Segment(Source.POLICY, [5], 3, outcome=end),
        ),
    )
    (credit,) = RewardToGo()([tree])
    assert credit.advantages.tolist() == [0, 3.75, 3.75, 3.5, 0, 2]
    (discounted,) = RewardToGo(discount=0.5, baseline=1.0)([tree])
    assert discounted.advantages.tolist() == [0, 1.75, 1.75, 1.5, 0, 1]


def test_a_discount_outside_its_range_is_refused():
    with pytest.raises(ConfigurationError, match="discount"):
        RewardToGo(discount=1.5)
