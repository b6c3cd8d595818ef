"""The weight of every token: by hand, and against rollouts written out as rows."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from laurel.credit import WholeReturn
from laurel.errors import ConfigurationError
from laurel.objectives import ConstantLength, DistinctTokenMean, PromptMean, SequenceMean, TokenMean
from laurel.theory import random_tree
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree

REDUCTIONS = [TokenMean(), SequenceMean(), PromptMean(), ConstantLength(4.0)]
seeds = st.integers(0, 10_000)


def group(name: str, *lengths: int) -> Tree:
    """Siblings of these lengths below one prompt; a negative length failed."""
    leaves = [
        Segment(
            Source.POLICY,
            [5] * abs(length),
            0,
            outcome=Outcome(Ending.TERMINATED, "stop", Score(1.0) if length > 0 else Failed("crash")),
        )
        for length in lengths
    ]
    return Tree(name, name, (Segment(Source.PROMPT, [1, 2], -1), *leaves))


def weights(reduction, *trees: Tree) -> list[list[float]]:
    """The weight of the first token of every rollout, tree by tree."""
    given = reduction(trees, [credit.mask for credit in WholeReturn()(trees)])
    return [part[tree.flat.starts[1:]].tolist() for part, tree in zip(given, trees, strict=True)]


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        (TokenMean(), [[1 / 8, 1 / 8], [1 / 8, 1 / 8, 0]]),
        (SequenceMean(), [[1 / 4, 1 / 12], [1 / 8, 1 / 8, 0]]),
        (PromptMean(), [[1 / 8, 1 / 8], [1 / 8, 1 / 8, 0]]),
        (ConstantLength(10), [[1 / 40, 1 / 40], [1 / 40, 1 / 40, 0]]),
    ],
    ids=str,
)
def test_hand_computed(reduction, expected):
    # Rollouts of 1 and 3 tokens; of 2 and 2, and a failed one of 5 that is not there.
    assert weights(reduction, group("a", 1, 3), group("b", 2, 2, -5)) == [pytest.approx(row) for row in expected]


def test_token_and_prompt_means_differ_where_prompts_do():
    trees = group("a", 1, 1), group("b", 3, 3)
    assert weights(TokenMean(), *trees) == [pytest.approx([1 / 8] * 2)] * 2
    assert weights(PromptMean(), *trees) == [pytest.approx([1 / 4] * 2), pytest.approx([1 / 12] * 2)]


def test_a_rollout_that_failed_after_a_shared_token_does_not_share_it():
    # prompt -> a (1 token) -> seen -> b (1 token), and a -> the environment crashed. One rollout of 2 tokens is left.
    done, crashed = (Outcome(Ending.TERMINATED, "stop", score) for score in (Score(1.0), Failed("crash")))
    tree = Tree(
        "t",
        "t",
        (
            Segment(Source.PROMPT, [1], -1),
            Segment(Source.POLICY, [2], 0),
            Segment(Source.ENVIRONMENT, [3], 1),
            Segment(Source.POLICY, [4], 2, outcome=done),
            Segment(Source.ENVIRONMENT, [5], 1, outcome=crashed),
        ),
    )
    (sequence,) = SequenceMean()([tree], [tree.flat.policy])
    assert sequence.tolist() == [0, 0.5, 0, 0.5, 0]
    (constant,) = ConstantLength(1.0)([tree], [tree.flat.policy])
    assert constant.tolist() == [0, 1, 0, 1, 0]


def test_a_rollout_that_credit_left_out_is_not_counted():
    # Three rollouts of 1, 2 and 3 tokens; the last is there to compare with, so two are averaged.
    tree = group("a", 1, 2, 3)
    (constant,) = ConstantLength(1.0)([tree], [tree.flat.policy & (tree.flat.segment != 3)])
    assert constant.tolist() == [0, 0, 0.5, 0.5, 0.5, 0, 0, 0]


def test_a_shared_token_stands_for_its_rollouts():
    # prompt -> shared (2 tokens) -> x (1 token), y (3 tokens); and a sibling z (2 tokens) of the shared segment.
    # Shares: x 1/4, y 1/4, z 1/2; times two samples: 0.5, 0.5, 1. As rows: |x| = 3, |y| = 5, |z| = 2.
    outcome = Outcome(Ending.TERMINATED, "stop", Score(1.0))
    tree = Tree(
        "t",
        "t",
        (
            Segment(Source.PROMPT, [1], -1),
            Segment(Source.POLICY, [2, 2], 0),
            Segment(Source.POLICY, [3], 1, outcome=outcome),
            Segment(Source.POLICY, [4, 4, 4], 1, outcome=outcome),
            Segment(Source.POLICY, [5, 5], 0, outcome=outcome),
        ),
    )
    mask = tree.flat.policy
    (sequence,) = SequenceMean()([tree], [mask])
    shared, x, y, z = 0.5 / 3 + 0.5 / 5, 0.5 / 3, 0.5 / 5, 1 / 2
    np.testing.assert_allclose(sequence * 2, [0, shared, shared, x, y, y, y, z, z])
    (token,) = TokenMean()([tree], [mask])
    np.testing.assert_allclose(token * (1 * 2 + 0.5 + 3 * 0.5 + 2 * 1), [0, 1, 1, 0.5, 0.5, 0.5, 0.5, 1, 1])
    (constant,) = ConstantLength(3.0)([tree], [mask])
    np.testing.assert_allclose(constant * 2 * 3, [0, 1, 1, 0.5, 0.5, 0.5, 0.5, 1, 1])


def test_how_often_a_sample_forked_does_not_vote():
    outcome = Outcome(Ending.TERMINATED, "stop", Score(1.0))
    prompt, ends = Segment(Source.PROMPT, [1], -1), [Segment(Source.POLICY, [3], 1, outcome=outcome)] * 5
    forked = Tree("f", "f", (prompt, Segment(Source.POLICY, [2], 0), *ends))
    straight = group("s", 2)
    masks = [forked.flat.policy, straight.flat.policy]
    for reduction in REDUCTIONS:
        first, second = reduction([forked, straight], masks)
        assert first.sum() == pytest.approx(second.sum())


@given(seeds)
@pytest.mark.parametrize("reduction", REDUCTIONS, ids=str)
def test_weights_sum_to_what_they_should_and_lie_on_the_mask(reduction, seed):
    generator = np.random.default_rng(seed)
    trees = [random_tree(generator, failing=0.4) for _ in range(3)]
    masks = [credit.mask for credit in WholeReturn()(trees)]
    given = reduction(trees, masks)
    assert all((part[~mask] == 0).all() and (part >= 0).all() for part, mask in zip(given, masks, strict=True))
    if isinstance(reduction, ConstantLength):
        return
    total = sum(part.sum() for part in given)
    assert total == pytest.approx(1.0 if any(mask.any() for mask in masks) else 0.0)


@given(seeds, st.randoms(use_true_random=False))
@pytest.mark.parametrize("reduction", REDUCTIONS, ids=str)
def test_splitting_a_segment_changes_nothing(reduction, seed, random):
    tree = random_tree(np.random.default_rng(seed))
    long = [index for index, segment in enumerate(tree.segments) if len(segment) > 1]
    assume(long)
    where = random.choice(long)
    cut = tree.split(where, random.randrange(1, len(tree.segments[where])))
    (mask,) = (credit.mask for credit in WholeReturn()([tree]))
    np.testing.assert_allclose(reduction([tree], [mask])[0], reduction([cut], [mask])[0], atol=1e-15)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.lists(st.integers(-6, -1), min_size=1, max_size=3))
@pytest.mark.parametrize("reduction", REDUCTIONS, ids=str)
def test_failed_siblings_were_never_sampled(reduction, lengths, failed):
    (with_failures,) = weights(reduction, group("a", *lengths, *failed))
    (without,) = weights(reduction, group("a", *lengths))
    assert with_failures == pytest.approx([*without, *[0.0] * len(failed)])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_plain_groups_agree_with_rows(lengths):
    tree = group("a", *lengths)
    mask = tree.flat.policy
    loss = np.arange(len(tree.flat), dtype=np.float64)
    rows = [loss[start:end] for start, end in zip(tree.flat.starts[1:], tree.flat.ends[1:], strict=True)]
    (token,), (sequence,), (constant,) = (
        reduction([tree], [mask]) for reduction in (TokenMean(), SequenceMean(), ConstantLength(7.0))
    )
    assert token @ loss == pytest.approx(np.concatenate(rows).mean())
    assert sequence @ loss == pytest.approx(np.mean([row.mean() for row in rows]))
    assert constant @ loss == pytest.approx(np.mean([row.sum() / 7 for row in rows]))


@pytest.mark.parametrize("reduction", [*REDUCTIONS, DistinctTokenMean()], ids=str)
def test_nothing_to_learn_has_no_weight(reduction):
    assert weights(reduction, group("a", -1, -3)) == [[0.0, 0.0]]


@pytest.mark.parametrize("reduction", [*REDUCTIONS, DistinctTokenMean()], ids=str)
def test_a_mask_on_prompt_tokens_is_refused(reduction):
    tree = group("a", 2)
    with pytest.raises(ConfigurationError, match="mask"):
        reduction([tree], [np.ones(len(tree.flat), np.bool_)])
    with pytest.raises(ConfigurationError, match="mask"):
        reduction([tree], [tree.flat.policy[1:]])


def test_constant_length_must_be_positive():
    with pytest.raises(ConfigurationError, match="length"):
        ConstantLength(0)


def test_distinct_tokens_count_once_wherever_a_tree_forks():
    """A sample of 2 tokens that forks into 1 and 3, beside one of 2: 8 tokens, and each is an eighth."""
    forked = Tree.build(
        "f",
        "task",
        [
            Segment(Source.PROMPT, [1], -1),
            Segment(Source.POLICY, [2, 3], 0),
            Segment(Source.POLICY, [4], 1),
            Segment(Source.POLICY, [5, 6, 7], 1),
            Segment(Source.POLICY, [8, 9], 0),
        ],
    )
    mask = forked.flat.policy
    (own,) = DistinctTokenMean()([forked], [mask])
    assert own[mask].tolist() == [0.125] * 8 and own[~mask].tolist() == [0.0]
    first, second = DistinctTokenMean()([forked, group("a", 8)], [mask, group("a", 8).flat.policy])
    assert first.sum() == second.sum() == 0.5
