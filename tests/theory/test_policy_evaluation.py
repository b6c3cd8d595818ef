"""Step sizes, Monte Carlo against temporal differences on one batch, and the deadly triad in two states."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laurel.errors import ConfigurationError
from laurel.theory import (
    World,
    batch_monte_carlo,
    batch_temporal_difference,
    converges,
    example_dialogue,
    example_world,
    followed_values,
    history_values,
    linear_td_matrix,
    path_episode,
    single_turn,
)


def test_step_sizes_by_hand():
    assert followed_values([4.0, 0.0, 2.0], start=9.0).tolist() == pytest.approx([4, 2, 2])
    assert followed_values([4.0, 0.0, 2.0], step_size=0.5).tolist() == [2, 1, 1.5]
    assert followed_values([3.0, 5.0], step_size=1.0, start=9.0).tolist() == [3, 5]
    for wrong in (0.0, 1.5, -0.1, float("nan")):
        with pytest.raises(ConfigurationError, match=r"\(0, 1\]"):
            followed_values([1.0], step_size=wrong)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.floats(0.01, 1.0), st.floats(-100, 100))
def test_one_over_n_is_the_sample_mean_and_a_fraction_weighs_by_age(seen, step_size, start):
    means = np.cumsum(seen) / np.arange(1, len(seen) + 1)
    np.testing.assert_allclose(followed_values(seen, start=start), means, atol=1e-10)
    ages = np.arange(len(seen))[::-1]
    weighed = step_size * (1 - step_size) ** ages @ np.array(seen) + (1 - step_size) ** len(seen) * start
    assert followed_values(seen, step_size=step_size, start=start)[-1] == pytest.approx(weighed, abs=1e-9)


def test_a_fixed_fraction_tracks_drift_and_the_mean_does_not():
    rising = 0.1 * np.arange(1, 501)
    behind = rising - followed_values(rising)
    np.testing.assert_allclose(behind, 0.1 * np.arange(500) / 2, atol=1e-10)
    assert rising[-1] - followed_values(rising, step_size=0.2)[-1] == pytest.approx(0.1 * 0.8 / 0.2, abs=1e-10)


def test_the_mean_averages_noise_out_and_a_fixed_fraction_does_not():
    """Exactly, from how each weighs independent numbers of variance 1: 1/n, and a / (2 - a)."""
    alone = np.eye(200)
    for step_size, left in ((None, 1 / 200), (0.2, 0.2 / 1.8)):
        weights = [followed_values(row, step_size=step_size)[-1] for row in alone]
        assert float(np.square(weights).sum()) == pytest.approx(left, rel=1e-10)


def test_the_textbook_batch():
    # A 0 B 0 once, B 1 six times, B 0 once (Sutton and Barto, example 6.4): Monte Carlo says A = 0, TD says 3/4.
    episodes = [[("A", 0.0), ("B", 0.0)], *[[("B", 1.0)]] * 6, [("B", 0.0)]]
    assert batch_monte_carlo(episodes) == pytest.approx({"A": 0.0, "B": 0.75})
    assert batch_temporal_difference(episodes) == pytest.approx({"A": 0.75, "B": 0.75})


@pytest.mark.parametrize("world", [example_world(), example_dialogue()], ids=["single turn", "dialogue"])
def test_on_a_tree_of_prefixes_they_are_the_same(world):
    drawn = np.random.default_rng(0).integers(0, len(world.paths), 40)
    episodes = [path_episode(world, world.paths[index]) for index in drawn]
    carlo, difference = batch_monte_carlo(episodes), batch_temporal_difference(episodes)
    assert carlo.keys() == difference.keys()
    assert max(abs(carlo[state] - difference[state]) for state in carlo) < 5e-16


def test_where_states_merge_they_differ_and_temporal_differences_are_nearer():
    # The score depends on the last of three tokens alone; a state that only counts tokens says all there is to say.
    base = single_turn(vocabulary=2, horizon=3, score=lambda answer: float(answer[-1]))
    merged = World(2, base.respond, state=lambda history: (len(history), history[0] if len(history) == 1 else None))
    exact = history_values(merged, torch.zeros(len(merged.states), 2, dtype=torch.float64))
    generator, errors = np.random.default_rng(1), {"carlo": 0.0, "difference": 0.0}
    for _ in range(50):
        drawn = generator.integers(0, 8, 6)
        episodes = [path_episode(merged, merged.paths[index]) for index in drawn]
        for name, values in (
            ("carlo", batch_monte_carlo(episodes)),
            ("difference", batch_temporal_difference(episodes)),
        ):
            first = [(value - exact[(state[1],)]) ** 2 for state, value in values.items() if state[0] == 1]
            errors[name] += float(np.mean(first))
    assert errors["difference"] < 0.7 * errors["carlo"]


FEATURES = np.array([[1.0], [2.0]])  # values w and 2 w
STAYS = np.array([[0.0, 1.0], [0.0, 1.0]])  # the first state leads to the second, which leads to itself


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.83, 0.8333, 0.8334, 0.84, 0.95, 0.999])
def test_equally_weighted_updates_diverge_iff_the_discount_exceeds_five_sixths(discount):
    matrix = linear_td_matrix(FEATURES, STAYS, np.ones(2), discount=discount)
    assert matrix == pytest.approx(np.array([[6 * discount - 5]]))
    assert converges(matrix) == (discount < 5 / 6)


@pytest.mark.parametrize("discount", [0.0, 0.84, 0.95, 0.999, 1.0])
@pytest.mark.parametrize("ending", [0.1, 0.5])
def test_on_policy_updates_converge(discount, ending):
    transitions = np.array([[0.0, 1.0], [0.0, 1 - ending]])
    visits = np.array([1.0, 1 / ending])  # expected visits per episode
    assert converges(linear_td_matrix(FEATURES, transitions, visits, discount=discount))
