"""Trees and credit to rows and back."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import assert_same_tree, credit_of, game

from laurel.algorithms.algorithm import Credit
from laurel.errors import RunError
from laurel.runs import records, schema
from laurel.tree import Ending, Failed, Outcome, Sampling, Score, Segment, Source, Support, Tree

finite = st.floats(allow_nan=False, allow_infinity=False)
# Every code point, with NUL and half surrogate pairs: models write anything.
anything = st.text(st.characters(), max_size=8) | st.just("\ud800 broken") | st.just("a\0b")
scores = st.builds(Score, finite, st.dictionaries(anything, finite, max_size=2)) | st.builds(Failed, anything)
outcomes = st.builds(Outcome, st.sampled_from(Ending), anything, st.none() | scores)
samplings = st.builds(
    Sampling, st.floats(0.1, 2), st.none() | st.integers(1, 9), st.floats(0.1, 1), st.floats(0, 0.9)
)  # fmt: skip


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Any tree that the constructor accepts."""
    count = draw(st.integers(1, 6))
    parents = [-1] + [draw(st.integers(0, index - 1)) for index in range(1, count)]
    leaves = set(range(count)) - set(parents)
    segments = []
    for index, parent in enumerate(parents):
        tokens = draw(st.lists(st.integers(0, 200_000), min_size=1, max_size=5))
        source = draw(st.sampled_from(Source))
        drawn = source is Source.POLICY and draw(st.booleans())
        size = len(tokens)
        segments.append(
            Segment(
                source=source,
                tokens=np.array(tokens),
                parent=parent,
                text=draw(anything),
                sampler_log_probs=np.array(draw(st.lists(st.floats(-50, 0, width=32), min_size=size, max_size=size)))
                if drawn
                else None,
                sampling=draw(samplings) if drawn else None,
                support=Support(np.arange(2 * size), np.arange(0, 2 * size + 1, 2)) if drawn else None,
                policy_version=draw(st.none() | st.integers(0, 10**6)),
                reward=draw(finite),
                outcome=draw(st.none() | outcomes) if index in leaves else None,
                rollout_id=draw(st.none() | st.just(f"1.{index}")),
            )
        )
    return Tree.build("1.0", draw(anything), segments)


def database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.create_tables(connection)
    return connection


@settings(max_examples=60, deadline=None)
@given(trees(), st.data())
def test_every_tree_and_credit_comes_back_equal(tree: Tree, data: st.DataObject) -> None:
    size = len(tree.flat)
    values = data.draw(st.lists(st.floats(), min_size=size, max_size=size))
    credit = Credit(np.array(values), np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size))))
    connection = database()
    records.insert_trees(connection, 7, records.LEARNED, [tree], [credit])
    (found,) = records.read_trees(connection, 7, records.LEARNED)
    assert_same_tree(found, tree)
    (back,) = records.read_credits(connection, 7)
    assert back.advantages.tobytes() == credit.advantages.tobytes()
    assert back.advantages.dtype == np.float64
    assert back.mask.dtype == np.bool_
    np.testing.assert_array_equal(back.mask, credit.mask)
    connection.close()


def test_the_docstring_game_comes_back_with_its_rewards() -> None:
    connection = database()
    records.insert_trees(connection, 1, records.LEARNED, [game("1.0"), game("1.1")], [credit_of(game())] * 2)
    found = records.read_trees(connection, 1, records.LEARNED)
    assert [tree.id for tree in found] == ["1.0", "1.1"]
    won, lost = found[0].rollouts
    assert won.reward == 0.75
    assert won.outcome is not None and won.outcome.score == Score(1.0, {"right": 0.75, "short": 0.25})
    assert lost.outcome is not None and lost.outcome.score == Failed("the sandbox died")
    connection.close()


def test_credit_that_does_not_fit_is_refused_with_the_name_of_its_tree() -> None:
    tree = game("8.3")
    short = Credit(np.zeros(3), np.zeros(3, bool))
    with pytest.raises(RunError, match=r"Tree 8\.3 has 8 tokens"):
        records.check([tree], [short])
    with pytest.raises(RunError, match="1 trees but 0 credits"):
        records.check([tree], [])
    with pytest.raises(RunError, match=r"called 8\.3"):
        records.check([tree, tree], [credit_of(tree)] * 2)
