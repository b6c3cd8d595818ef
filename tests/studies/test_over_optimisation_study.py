"""The study of over-optimisation: its world is exact, and its distances are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from laurel.best_of import best_of_kl
from studies import over_optimisation as study


def test_the_cook_is_a_distribution_with_the_worth_that_the_binomial_says() -> None:
    assert study.COOK.sum() == pytest.approx(1)
    spoons = np.arange(9)
    chances = np.array([study.COOK[[dish.count("s") == n for dish in study.DISHES]].sum() for n in spoons])
    assert chances[3] == pytest.approx(56 * 0.3**3 * 0.7**5)
    assert float(chances @ (3 - np.abs(spoons - 3))) == pytest.approx(float(study.COOK @ study.GOLD))


def test_the_gold_reward_itself_is_never_over_optimised() -> None:
    (gold,) = study.at_distances(study.GOLD, [study.GOLD])
    assert gold[0] == pytest.approx(float(study.COOK @ study.GOLD), abs=1e-4) and (np.diff(gold) >= -1e-9).all()
    assert gold[-1] > 2.9


def test_salt_alone_is_over_optimised_where_the_best_is_passed() -> None:
    salt = np.array([float(dish.count("s")) for dish in study.DISHES])
    gold, liked = study.at_distances(salt, [study.GOLD, salt])
    assert (np.diff(liked) > 0).all()
    top = int(np.argmax(gold))
    assert 0 < top < len(gold) - 1 and gold[-1] < gold[0] < gold[top]


def test_policies_stand_at_the_distances_that_they_are_drawn_at() -> None:
    salt = np.array([float(dish.count("s")) for dish in study.DISHES])
    for temperature in (4.0, 1.0, 0.5):
        policy, kl = study.maximised(salt, temperature)
        tilted = study.COOK * np.exp(salt / temperature)
        np.testing.assert_allclose(policy, tilted / tilted.sum())
        assert kl == pytest.approx(float(policy @ np.log(policy / study.COOK)))


def test_best_of_n_follows_the_reward() -> None:
    rank = np.random.default_rng(0).permutation(len(study.DISHES)).astype(float)
    assert study.best_of(rank, 1) == pytest.approx(float(study.COOK @ study.GOLD))
    assert study.best_of(study.GOLD, 64) > 2.99
    assert best_of_kl(64) < 3.3


def test_a_fit_to_few_comparisons_ranks_better_than_chance() -> None:
    data = study.comparisons(60, 0)
    assert len(data) == 60 and all(set(one.scores) == {0.0, 1.0} for one in data)
    assert study.accuracy(study.GOLD) == pytest.approx(1) and study.accuracy(-study.GOLD) == pytest.approx(0)


def test_the_summary_by_hand() -> None:
    curves = np.array([[1.0, 2.0, 1.5], [1.0, 2.0, 3.0], [1.0, 1.05, 1.0]])
    highest, last, fell, worst = study.summary(curves)
    assert (highest, last) == pytest.approx(((2 + 3 + 1.05) / 3, (1.5 + 3 + 1) / 3))
    assert (fell, worst) == (1, 1.0)
