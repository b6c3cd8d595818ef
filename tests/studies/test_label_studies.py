"""What the studies of labels compute: exact policies, fitted members, and how many labels count as needed."""

from __future__ import annotations

import numpy as np
import pytest

from laurel.tasks import Task
from studies.label_world import (
    LENGTH,
    LETTERS,
    PER_ROUND,
    ROUNDS,
    Answers,
    best_within,
    drawn_pairs,
    features,
    refitted,
    returns_by_round,
)
from studies.labels_and_return import against_uniform, needed, summary, worth


def divergence(policy: np.ndarray) -> float:
    kept = policy > 0
    return float(policy[kept] @ np.log(policy[kept] * len(policy)))


@pytest.mark.parametrize("limit", [0.1, 1.0, 3.0])
def test_the_best_policy_meets_its_limit_and_no_other_is_better(limit: float) -> None:
    draw = np.random.default_rng(0)
    rewards = draw.normal(size=50)
    best = best_within(rewards, limit)
    assert best.sum() == pytest.approx(1) and divergence(best) == pytest.approx(limit, abs=1e-6)
    others = [draw.dirichlet(np.full(50, 0.3)) for _ in range(200)]
    assert all(other @ rewards < best @ rewards for other in others if divergence(other) <= limit)


def test_without_a_reward_the_policy_stays_even() -> None:
    np.testing.assert_allclose(best_within(np.zeros(7), 1.0), np.full(7, 1 / 7))


def test_members_are_at_the_optimum_of_their_own_posterior() -> None:
    draw = np.random.default_rng(0)
    gaps, said, guesses = draw.normal(size=(30, 5)), draw.integers(2, size=30).astype(float), draw.normal(size=(3, 5))
    found = guesses
    for count in range(4, 31, 2):  # labels come a few at a time, and each fit starts from the last
        found = refitted(found, guesses, gaps[:count], said[:count])
    chance = 1 / (1 + np.exp(-found @ gaps.T))
    np.testing.assert_allclose((chance - said) @ gaps + found - guesses, 0, atol=1e-6)


def test_pairs_were_not_asked_about_and_there_are_enough() -> None:
    draw, certain = np.random.default_rng(0), np.eye(20)[3]
    pairs = drawn_pairs(certain, set(), draw)
    assert len(pairs) >= PER_ROUND and (pairs[:, 0] != pairs[:, 1]).all()
    asked = {frozenset(pair) for pair in pairs.tolist()}
    assert not asked & {frozenset(pair) for pair in drawn_pairs(certain, asked, draw).tolist()}


def test_the_exact_setting_starts_low_and_comes_near_the_best() -> None:
    assert features().shape == (LETTERS**LENGTH, LETTERS * LENGTH) and (features().sum(1) == LENGTH).all()
    course = returns_by_round("uniform", Answers(), seed=0)
    assert len(course) == ROUNDS and course[0] < 0.8 and course[-1] > 0.9 and max(course) <= 1 + 1e-9
    assert course == returns_by_round("uniform", Answers(), seed=0)
    assert course != returns_by_round("entropy", Answers(), seed=0)


def test_needed_labels_are_those_from_which_it_stays_for_three_rounds() -> None:
    assert needed([0.1, 0.9, 0.5, 0.9, 0.95, 0.9, 0.2], 0.9, 4) == 16
    assert needed([0.9, 0.9, 0.9], 0.9, 2) == 2 and needed([0.9, 0.9], 0.9, 2) is None
    found = summary([4, None, 8], 12)
    assert (found["median"], found["never"]) == (8, 1)
    assert against_uniform([4, 8], [8, 8], 12)[0] == 0.75


def test_the_true_reward_of_the_trained_setting() -> None:
    asked = Task("c", "c:")
    assert worth(asked, "fff") == 1.0 and worth(asked, "ccc") == 0.0 and worth(asked, "f") == pytest.approx(1 / 3)
