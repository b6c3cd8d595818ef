"""Blocks cover each pair of a token and its ancestor exactly once, whichever way a tree is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import ancestors, random_tree

from laurel.policy import TreeLayout, pack, tree_blocks
from laurel.policy.tree_blocks import Blocks, InnerBlock, OwnBlock

CPU = torch.device("cpu")
FAN = TreeLayout(np.array([0, 3, 5, 7]), np.array([3, 5, 7, 11]), np.array([11, 5, 7, 11]), 7)


@pytest.fixture
def free_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if starting a kernel cost nothing: trees are cut into blocks unless rows are no more work."""
    monkeypatch.setattr(tree_blocks, "CALL_COST", 0)


@pytest.mark.usefixtures("free_calls")
def test_blocks_of_a_fan_by_hand() -> None:
    """Prompt of 3, answers of 2, 2 and 4: the two short answers are one batch; all eight tokens attend the prompt."""
    blocks = Blocks.of(FAN, CPU)
    assert blocks.own == (OwnBlock(0, 1, 3), OwnBlock(3, 2, 2), OwnBlock(7, 1, 4))
    assert blocks.inner == (InnerBlock(0, 3, 3, 11),)
    assert blocks.rows == ()


def test_rows_of_a_fan_by_hand() -> None:
    """The same three paths of 5, 5 and 7 tokens in one batch; the first owns the prompt, the ends repeat."""
    (rows,) = Blocks.of(FAN, CPU).rows
    assert rows.read.view(3, 7).tolist() == [[0, 1, 2, 3, 4, 4, 4], [0, 1, 2, 5, 6, 6, 6], [0, 1, 2, 7, 8, 9, 10]]
    assert rows.token.tolist() == list(range(11))
    assert rows.own.tolist() == [0, 1, 2, 3, 4, 10, 11, 17, 18, 19, 20]
    assert rows.other.tolist() == [5, 6, 7, 8, 9, 12, 13, 14, 15, 16]


def test_a_long_prompt_is_not_computed_again() -> None:
    starts = np.array([0, *range(500, 1524, 64)])
    ends = np.array([500, *range(564, 1525, 64)])
    blocks = Blocks.of(TreeLayout(starts, ends, np.array([1524, *ends[1:]]), 564), CPU)
    assert blocks == Blocks((OwnBlock(0, 1, 500), OwnBlock(500, 16, 64)), (), (InnerBlock(0, 500, 500, 1524),), ())


def test_of_a_prompt_only_the_last_token_is_computed_where_nothing_else_is_wanted() -> None:
    starts = np.array([0, *range(500, 1524, 64)])
    ends = np.array([500, *range(564, 1525, 64)])
    layout = TreeLayout(starts, ends, np.array([1524, *ends[1:]]), 564)
    blocks = Blocks.of(layout, CPU, np.arange(499, 1524))
    inner = InnerBlock(0, 500, 500, 1524)
    assert blocks == Blocks((OwnBlock(500, 16, 64),), (InnerBlock(0, 500, 499, 500),), (inner,), ())
    assert Blocks.of(layout, CPU, np.arange(498, 1524)) == Blocks.of(layout, CPU)


@pytest.mark.usefixtures("free_calls")
def test_segments_on_both_sides_of_one_that_is_not_wanted_are_two_batches() -> None:
    """Prompt of 2, an answer of 2, another of 6 (of which nothing is wanted) with two continuations of 2 each."""
    starts, ends = np.array([0, 2, 4, 10, 12]), np.array([2, 4, 10, 12, 14])
    layout = TreeLayout(starts, ends, np.array([14, 4, 14, 12, 14]), 10)
    blocks = Blocks.of(layout, CPU, np.array([0, 1, 2, 3, 10, 11, 12, 13]))
    assert blocks.own == (OwnBlock(0, 2, 2), OwnBlock(10, 2, 2))
    assert blocks.last == (InnerBlock(4, 10, 9, 10),)
    assert blocks.inner == (InnerBlock(0, 2, 2, 14), InnerBlock(4, 10, 10, 14))


def test_a_chain_is_one_row() -> None:
    layout = TreeLayout(np.array([0, 3, 5]), np.array([3, 5, 9]), np.array([9, 9, 9]), 9)
    (rows,) = Blocks.of(layout, CPU).rows
    assert rows.read.tolist() == rows.own.tolist() == list(range(9))


@pytest.mark.parametrize("call_cost", [0, tree_blocks.CALL_COST, 10**9])
@settings(max_examples=40, deadline=None)
@given(seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=3), segments=st.integers(1, 12))
def test_each_pair_of_a_wanted_token_is_covered_once(call_cost: int, seeds: list[int], segments: int) -> None:
    trees = [random_tree(seed, segments=segments) for seed in seeds]
    total = sum(len(tree.flat) for tree in trees)
    draw = np.random.default_rng(seeds)
    wanted = None if seeds[0] % 3 == 0 else np.flatnonzero(draw.random(total) < draw.random())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_blocks, "CALL_COST", call_cost)
        blocks = Blocks.of(pack(trees, [tree.flat.policy for tree in trees]).layout, CPU, wanted)
    covered = np.zeros((total, total), np.int64)
    for own in blocks.own:
        for index in range(own.count):
            place = slice(own.start + index * own.length, own.start + (index + 1) * own.length)
            covered[place, place] += np.tri(own.length, dtype=np.int64)
    for inner in (*blocks.last, *blocks.inner):
        covered[inner.first : inner.end, inner.start : inner.stop] += 1
    for rows in blocks.rows:
        for place, token in zip(rows.own.tolist(), rows.token.tolist(), strict=True):
            row = place // rows.length * rows.length
            np.add.at(covered[token], rows.read[row : place + 1].numpy(), 1)
    expected = np.zeros_like(covered)
    for tree, end in zip(trees, np.cumsum([len(tree.flat) for tree in trees]), strict=True):
        expected[end - len(tree.flat) : end, end - len(tree.flat) : end] = ancestors(tree.flat)
    rows = slice(None) if wanted is None else wanted
    np.testing.assert_array_equal(covered[rows], expected[rows])
