"""The layout of a row of trees, by hand on the example of `laurel.tree`."""

from __future__ import annotations

import numpy as np
import pytest

from laurel.errors import PolicyError
from laurel.policy import pack
from laurel.tree import Sampling, Segment, Source, Support, Tree


def guessing(sampling: Sampling | None = None) -> Tree:
    """The two-turn guessing game in the docstring of `laurel.tree`."""
    return Tree(
        "game",
        "task",
        (
            Segment(Source.PROMPT, [10, 11], -1),
            Segment(Source.POLICY, [20], 0, sampling=sampling),
            Segment(Source.ENVIRONMENT, [30], 1),
            Segment(Source.POLICY, [21, 1], 2),
            Segment(Source.POLICY, [22, 1], 0),
        ),
    )


def test_the_example_by_hand() -> None:
    tree = guessing()
    packed = pack([tree, tree], [tree.flat.policy] * 2)
    assert packed.tokens.tolist() == [10, 11, 20, 30, 21, 1, 22, 1] * 2
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 5, 2, 3] * 2
    assert packed.row_predictors.tolist() == [1, 3, 4, 6, 9, 11, 12, 14]  # both first answers read row 0
    assert packed.row_of.tolist() == [0, 1, 2, 0, 3, 4, 5, 6, 4, 7]
    assert packed.rows.token.tolist() == [20, 22, 21, 1, 1, 20, 22, 21, 1, 1]
    assert packed.rows.row.tolist() == [0, 0, 1, 2, 3, 4, 4, 5, 6, 7]
    assert packed.rows.token[packed.rank].tolist() == packed.tokens[[2, 4, 5, 6, 7, 10, 12, 13, 14, 15]].tolist()
    assert packed.layout.longest_path == 6
    assert packed.layout.trees == (slice(0, 8), slice(8, 16))
    assert packed.rows.kept is None


def test_another_temperature_is_another_row() -> None:
    tree = guessing(Sampling(temperature=0.5))
    packed = pack([tree], [tree.flat.policy])
    assert packed.row_predictors.tolist() == [1, 1, 3, 4, 6]
    assert packed.rows.temperatures.tolist() == [0.5, 1, 1, 1, 1]
    assert packed.rows.token.tolist() == [20, 22, 21, 1, 1]


def test_supports_stay_with_their_tokens() -> None:
    sampling = Sampling(top_k=2)
    tree = Tree(
        "t",
        "task",
        (
            Segment(Source.PROMPT, [5], -1),
            Segment(
                Source.POLICY, [6, 7], 0, sampling=sampling, support=Support(np.array([6, 9, 7]), np.array([0, 2, 3]))
            ),
            Segment(Source.POLICY, [8], 0),
        ),
    )
    packed = pack([tree], [tree.flat.policy])
    kept = packed.rows.kept
    assert kept is not None
    rows = {
        int(token): kept.ids[kept.offsets[row] : kept.offsets[row + 1]].tolist()
        for token, row in zip(packed.rows.token, packed.rows.row, strict=True)
    }
    assert rows == {6: [6, 9], 7: [7], 8: []}


def test_truncated_siblings_keep_rows_of_their_own() -> None:
    """Drawn at one place under different weights: each is read from the kept set that it was drawn from."""
    draws = [
        Segment(Source.POLICY, [6], 0, sampling=Sampling(top_k=2), support=Support(np.array(kept), np.array([0, 2])))
        for kept in ([6, 9], [6, 8])
    ]
    tree = Tree("t", "task", (Segment(Source.PROMPT, [4, 5], -1), *draws))
    packed = pack([tree], [tree.flat.policy])
    assert packed.row_predictors.tolist() == [1, 1]
    assert packed.row_of.tolist() == [0, 1]
    assert packed.rows.kept is not None
    assert packed.rows.kept.ids.tolist() == [6, 9, 6, 8]
    assert packed.rows.kept.offsets.tolist() == [0, 2, 4]


def test_what_cannot_be_packed() -> None:
    tree = guessing()
    with pytest.raises(PolicyError, match="no tree"):
        pack([], [])
    with pytest.raises(PolicyError, match=r"game.*first token"):
        pack([tree], [np.ones(8, np.bool_)])
    with pytest.raises(PolicyError, match="mask of 3"):
        pack([tree], [np.ones(3, np.bool_)])
    stray = Support(np.array([4]), np.array([0, 1]))
    tree = Tree("t", "task", (Segment(Source.PROMPT, [5], -1), Segment(Source.POLICY, [6], 0, support=stray)))
    with pytest.raises(PolicyError, match="not in its recorded support"):
        pack([tree], [tree.flat.policy])
