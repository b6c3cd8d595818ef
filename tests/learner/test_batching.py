"""Cutting trees: every scored token once, with its path, in the piece where the rest of its rollout is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_trees import batch, dialogue, fan, outcome, segment

from laurel.algorithms import Credit, grpo
from laurel.errors import LearnerError
from laurel.learner.batching import (
    Microbatch,
    Piece,
    TokenTable,
    fullest_microbatches,
    microbatches,
    pieces,
    rollout_of_tokens,
)
from laurel.tree import BoolArray, IntArray, Segment, Source, Tree


@st.composite
def marked_trees(draw: st.DrawFn) -> tuple[Tree, BoolArray]:
    """Any small tree, and any mask over its policy tokens."""
    size = draw(st.integers(1, 9))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    parts: list[Segment] = [segment(random, Source.PROMPT, -1, 3)]
    for index in range(1, size):
        parent = draw(st.integers(0, index - 1))
        source = draw(st.sampled_from([Source.POLICY, Source.ENVIRONMENT]))
        parts.append(segment(random, source, parent, draw(st.integers(1, 4))))
    tree = Tree.build("any", "any", parts)
    marks = np.array(draw(st.lists(st.booleans(), min_size=len(tree.flat), max_size=len(tree.flat))))
    return tree, marks & tree.flat.policy


def paths(tree: Tree, mask: BoolArray) -> list[list[int]]:
    """The token ids from the root to every scored token."""
    found = []
    for index in np.flatnonzero(mask):
        path = []
        while index >= 0:
            path.append(int(tree.flat.tokens[index]))
            index = tree.flat.parent[index]
        found.append(path[::-1])
    return found


@settings(deadline=None, max_examples=60)
@given(marked_trees(), st.integers(1, 30))
def test_pieces_score_each_marked_token_once_with_its_whole_path(marked: tuple[Tree, BoolArray], budget: int) -> None:
    tree, mask = marked
    parts = pieces(tree, mask, 100, budget)
    scored: IntArray = np.concatenate([np.empty(0, np.int64), *(part.scored for part in parts)])
    assert sorted(scored - 100) == list(np.flatnonzero(mask))
    original = dict(zip(np.flatnonzero(mask), paths(tree, mask), strict=True))
    for part in parts:
        assert [original[place - 100] for place in part.scored] == paths(part.tree, part.mask)
        assert len(part.mask) <= budget or len(part.tree.leaves) == 1


@settings(deadline=None, max_examples=60)
@given(marked_trees(), st.integers(1, 30))
def test_the_tokens_of_one_rollout_stay_together(marked: tuple[Tree, BoolArray], budget: int) -> None:
    tree, mask = marked
    rollouts = rollout_of_tokens(tree)
    owners = [set(rollouts[part.scored]) for part in pieces(tree, mask, 0, budget)]
    assert sum(map(len, owners)) == len(set().union(*owners))


def test_what_no_scored_token_depends_on_is_not_computed() -> None:
    tree = dialogue("talk", seed=0)
    mask = tree.flat.policy & (tree.flat.segment == 5)
    (part,) = pieces(tree, mask, 0, 1000)
    assert [len(s) for s in part.tree.segments] == [4, 7]
    assert list(part.scored) == list(range(20, 27))


def test_a_large_tree_repeats_only_what_its_leaves_share() -> None:
    # prompt 4, a 6, environment 3, b 5, c 2, d 7. Budget 20: {prompt, a, environment, b, c} is 20, {prompt, d} 11.
    tree = dialogue("talk", seed=0)
    parts = pieces(tree, tree.flat.policy, 0, 20)
    assert [len(part.mask) for part in parts] == [20, 11]
    assert [len(part.scored) for part in parts] == [6 + 5 + 2, 7]
    # Budget 18 separates b from c: the shared turn a is computed in both and scored in the first.
    parts = pieces(tree, tree.flat.policy, 0, 18)
    assert [len(part.mask) for part in parts] == [18, 15, 11]
    assert [len(part.scored) for part in parts] == [6 + 5, 2, 7]


def test_microbatches_hold_whole_pieces_within_the_budget() -> None:
    trees = batch()
    parts = [pieces(tree, tree.flat.policy, 0, 60)[0] for tree in trees]
    sizes = [len(part.mask) for part in parts]
    budget = sizes[0] + sizes[1]
    batches = microbatches(parts, budget)
    assert [part for one in batches for part in one.pieces] == parts
    assert all(one.computed_tokens <= budget for one in batches)
    assert len(batches[0].pieces) == 2
    assert [len(one.pieces) for one in microbatches(parts, 1)] == [1] * len(trees)


def of_length(tokens: int) -> Piece:
    return Piece(fan("of any kind", [1.0], seed=0), np.zeros(tokens, np.bool_), np.empty(0, np.int64))


def lengths(batches: list[Microbatch]) -> list[list[int]]:
    return [[len(piece.mask) for piece in one.pieces] for one in batches]


def test_the_fullest_microbatches_by_hand() -> None:
    parts = [of_length(tokens) for tokens in (4, 6, 5, 5, 12, 2)]
    assert lengths(microbatches(parts, 10)) == [[4, 6], [5, 5], [12], [2]]
    assert lengths(fullest_microbatches(parts, 10)) == [[12], [6, 4], [5, 5], [2]]


@given(st.lists(st.integers(1, 9), max_size=12))
def test_the_fullest_microbatches_hold_every_piece_once_within_the_budget(sizes: list[int]) -> None:
    parts = [of_length(tokens) for tokens in sizes]
    batches = fullest_microbatches(parts, 9)
    assert sorted(map(id, parts)) == sorted(id(piece) for one in batches for piece in one.pieces)
    assert all(one.computed_tokens <= 9 for one in batches)
    assert sum(one.computed_tokens <= 4 for one in batches) <= 1  # two such would have become one


def test_a_shared_token_belongs_to_the_first_rollout_that_did_not_fail() -> None:
    tree = dialogue("talk", seed=0)
    assert list(rollout_of_tokens(tree)) == [0] * 4 + [0] * 6 + [0] * 3 + [0] * 5 + [1] * 2 + [2] * 7
    broken = tree.with_outcomes({3: outcome(None)})
    assert list(rollout_of_tokens(broken)) == [1] * 4 + [1] * 6 + [1] * 3 + [0] * 5 + [1] * 2 + [2] * 7


def test_the_table_lays_all_trees_end_to_end() -> None:
    trees = batch()
    credits = grpo().credit(trees)
    table = TokenTable.of(trees, credits)
    assert table.offsets[-1] == sum(len(tree.flat) for tree in trees)
    second = slice(int(table.offsets[1]), int(table.offsets[2]))
    assert np.array_equal(table.advantages[second], credits[1].advantages)
    assert np.array_equal(table.rollouts[second], 4 + rollout_of_tokens(trees[1]))
    assert np.array_equal(np.isnan(table.policy_versions[second]), ~trees[1].flat.policy)


def test_credit_that_does_not_fit_is_refused_by_name() -> None:
    tree = fan("fan", [1.0, 0.0], seed=0)
    (credit,) = grpo().credit([tree])
    with pytest.raises(LearnerError, match="1 trees but 0 credits"):
        TokenTable.of([tree], [])
    with pytest.raises(LearnerError, match="Tree fan has"):
        TokenTable.of([tree], [Credit(credit.advantages[1:], credit.mask[1:])])
    with pytest.raises(LearnerError, match=r"Tree fan.*policy did not write"):
        TokenTable.of([tree], [Credit(credit.advantages, np.ones_like(credit.mask))])
    poisoned = np.where(tree.flat.segment == 2, np.nan, credit.advantages)
    with pytest.raises(LearnerError, match=r"rollout fan\.1\."):
        TokenTable.of([tree], [Credit(poisoned, credit.mask)])
