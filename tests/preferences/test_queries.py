"""What a pair is worth asking about: values by hand, identities, and which pairs there are."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from laurel.errors import ConfigurationError
from laurel.preferences.queries import (
    SELECTIONS,
    Pair,
    binary_entropy,
    candidate_pairs,
    check_selection,
    exploration_weight,
    information_gain,
    mean_entropy,
    most_valuable,
    preference_disagreement,
    preference_probabilities,
    pseudo_labels,
)
from laurel.tree import Ending, Failed, Outcome, Segment, Source, Tree

BY_HAND = np.array([[0.9, 1.0, 0.5, 0.8], [0.1, 0.0, 0.5, 0.8]])
SHARE = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.floats(0, 1))


def test_values_by_hand() -> None:
    sure = -0.9 * log(0.9) - 0.1 * log(0.1)
    np.testing.assert_allclose(preference_disagreement(BY_HAND), [0.4, 0.5, 0, 0], atol=1e-15)
    np.testing.assert_allclose(mean_entropy(BY_HAND), [log(2), log(2), log(2), -0.8 * log(0.8) - 0.2 * log(0.2)])
    np.testing.assert_allclose(information_gain(BY_HAND), [log(2) - sure, log(2), 0, 0], atol=1e-15)
    np.testing.assert_array_equal(SELECTIONS["uniform"](BY_HAND), np.zeros(4))


def test_probabilities_are_a_bradley_terry_model_without_overflow() -> None:
    first, second = np.array([[1.0, 0.0, 800.0]]), np.array([[0.0, 1.0, -800.0]])
    wanted = [[1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(1.0)), 1.0]]
    np.testing.assert_allclose(preference_probabilities(first, second), wanted, rtol=1e-14)
    assert binary_entropy(np.array([0.0, 1.0])).tolist() == [0.0, 0.0]


@given(SHARE)
def test_information_gain_is_the_mutual_information(shares: np.ndarray) -> None:
    """sum over member and label of p(member, label) log(p(member, label) / p(member) p(label)), member uniform."""
    found = information_gain(shares)
    joint = np.stack([shares, 1 - shares]) / len(shares)
    apart = joint.sum(1, keepdims=True) / len(shares)
    logs = np.log(np.where(joint > 0, joint, 1)) - np.log(np.where(apart > 0, apart, 1))
    terms = np.where(joint > 0, joint * logs, 0)
    np.testing.assert_allclose(found, terms.sum((0, 1)), atol=1e-12)
    assert (found <= mean_entropy(shares) + 1e-12).all() and (found >= 0).all()


@given(SHARE)
def test_which_side_stands_first_does_not_matter(shares: np.ndarray) -> None:
    for name, value in SELECTIONS.items():
        np.testing.assert_allclose(value(shares), value(1 - shares), atol=1e-12, err_msg=name)


def test_the_greatest_come_first_and_ties_fall_by_lot() -> None:
    values = np.array([0.0, 2.0, 1.0, 2.0])
    seen = {tuple(most_valuable(values, 3, np.random.default_rng(seed)).tolist()) for seed in range(20)}
    assert seen == {(1, 3, 2), (3, 1, 2)}
    assert sorted(most_valuable(values, 9, np.random.default_rng(0)).tolist()) == [0, 1, 2, 3]
    first = [int(most_valuable(np.zeros(4), 1, np.random.default_rng(seed))[0]) for seed in range(400)]
    assert min(np.bincount(first, minlength=4)) > 60  # 100 expected, deviation 9


def tree(*texts: str | None) -> Tree:
    """A prompt with these answers; None failed."""
    segments = [Segment(Source.PROMPT, np.array([1]), -1, text="?")]
    for text in texts:
        failed = text is None
        outcome = Outcome(Ending.FAILED, "lost") if failed else Outcome(Ending.TERMINATED, "end")
        segments.append(Segment(Source.POLICY, np.array([2]), 0, text=text or "", outcome=outcome))
    return Tree("t", "t", tuple(segments))


def test_pairs_are_of_different_answers_to_one_prompt() -> None:
    trees = [tree("a", "b", "a"), tree("a", " ", None, "c"), tree("a", "a")]
    found = candidate_pairs(trees, np.random.default_rng(0))
    assert {(pair.tree, frozenset(pair.leaves)) for pair in found} == {(0, frozenset({1, 2})), (1, frozenset({1, 4}))}
    shown = [candidate_pairs(trees[:1], np.random.default_rng(seed))[0] for seed in range(20)]
    assert {pair.leaves for pair in shown} == {(1, 2), (2, 1)}
    scored = trees[0].with_outcomes({1: Outcome(Ending.TERMINATED, "end", Failed("no"))})
    assert candidate_pairs([scored], np.random.default_rng(0))[0] in (Pair(0, (2, 3)), Pair(0, (3, 2)))


def test_pseudo_labels_count_where_the_model_is_sure() -> None:
    labels, sure = pseudo_labels(np.array([0.97, 0.6, 0.01, 0.95]), 0.95)
    assert labels.tolist() == [1, 1, 0, 1] and sure.tolist() == [True, False, True, False]
    assert not pseudo_labels(np.array([1.0, 0.0]), 1.0)[1].any()
    with pytest.raises(ConfigurationError, match="above a confidence"):
        pseudo_labels(np.array([0.5]), 0.4)


def test_the_bonus_decays() -> None:
    weights = [exploration_weight(step, start=0.5, decay=0.1) for step in range(3)]
    assert weights == pytest.approx([0.5, 0.45, 0.405])
    assert exploration_weight(7, start=2.0, decay=0.0) == 2.0
    for wrong in ({"start": -1.0, "decay": 0.0}, {"start": 1.0, "decay": 1.5}):
        with pytest.raises(ConfigurationError, match="is none"):
            exploration_weight(0, **wrong)


def test_a_selection_nobody_knows_is_refused() -> None:
    check_selection("entropy")
    with pytest.raises(ConfigurationError, match="uniform, disagreement, entropy, information_gain"):
        check_selection("boredom")
