"""Imitation by enumeration: compounding error with and without a way back, and what methods minimise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laurel.errors import ConfigurationError
from laurel.theory import (
    best_discriminator,
    chain_cost,
    chain_world,
    expected_return,
    log_log_slope,
    taught_everywhere,
    taught_on_path,
)
from laurel.tree import FloatArray

HORIZONS = (8, 16, 32, 64, 128, 256)
ERROR = 1e-6


def costs(policy: FloatArray, *, recoverable: bool) -> list[float]:
    return [chain_cost(policy, horizon, recoverable=recoverable) for horizon in HORIZONS]


def test_cloning_is_quadratic_where_dagger_is_linear() -> None:
    cloned, asked = (costs(taught(ERROR), recoverable=True) for taught in (taught_on_path, taught_everywhere))
    np.testing.assert_allclose(cloned, [ERROR * t * (t + 1) / 2 for t in HORIZONS], rtol=1e-4)
    np.testing.assert_allclose(asked, [ERROR * t for t in HORIZONS], rtol=1e-9)
    assert round(log_log_slope(HORIZONS, cloned), 2) == 1.97
    assert round(log_log_slope(HORIZONS, asked), 2) == 1.00


def test_without_a_way_back_dagger_is_quadratic_too() -> None:
    cloned, asked = (costs(taught(ERROR), recoverable=False) for taught in (taught_on_path, taught_everywhere))
    np.testing.assert_allclose(asked, cloned, rtol=1e-9)
    assert round(log_log_slope(HORIZONS, asked), 2) == 1.97


def test_two_steps_by_hand() -> None:
    """eps = 1/4. Beside the path after one step: 1/4. After two: 1/4 + 3/4 * 1/4 = 7/16 without return, else 1/4."""
    assert chain_cost(taught_on_path(0.25), 2) == pytest.approx(1 / 4 + 7 / 16)
    assert chain_cost(taught_everywhere(0.25), 2) == pytest.approx(1 / 4 + 1 / 4)
    assert chain_cost(taught_everywhere(0.25), 2, recoverable=False) == pytest.approx(1 / 4 + 7 / 16)


@given(
    weights=st.lists(st.floats(0.05, 1), min_size=6, max_size=6),
    horizon=st.integers(1, 5),
    recoverable=st.booleans(),
)
def test_the_recursion_is_the_enumerated_expectation(weights: list[float], horizon: int, recoverable: bool) -> None:
    table = np.reshape(weights, (2, 3))
    table = table / table.sum(1, keepdims=True)
    world = chain_world(horizon, recoverable=recoverable)
    rows = [table[place] for place in world.states]
    listed = expected_return(world, torch.log(torch.tensor(np.array(rows))))
    assert chain_cost(table, horizon, recoverable=recoverable) == pytest.approx(-float(listed), abs=1e-12)


def test_tables_that_are_no_policies_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two distributions"):
        chain_cost(np.ones((2, 3)), 4)
    with pytest.raises(ConfigurationError, match="at least 1 step"):
        chain_cost(taught_on_path(0.1), 0)
    with pytest.raises(ConfigurationError, match="above 0"):
        log_log_slope([1.0, 2.0], [0.0, 1.0])


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_the_best_discriminator_says_the_log_ratio(one: list[float], other: list[float]) -> None:
    expert, policy = (
        np.asarray(torch.softmax(torch.tensor(logits, dtype=torch.float64), 0)) for logits in (one, other)
    )
    logits = best_discriminator(expert, policy)
    np.testing.assert_allclose(logits, np.log(expert / policy), atol=1e-9)
    # What the policy is paid on average is minus KL(policy, expert).
    reverse = float(policy @ np.log(policy / expert))
    assert float(policy @ logits) == pytest.approx(-reverse, abs=1e-9)


def test_likelihood_and_the_adversary_move_along_different_divergences() -> None:
    """The gradients, in the policy's logits, are those of forward and of reverse KL, and they differ."""
    expert = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    start = torch.tensor([0.3, -0.4, 0.1], dtype=torch.float64)

    def gradient(of_policy: str) -> FloatArray:
        logits = start.clone().requires_grad_()
        log_policy = torch.log_softmax(logits, 0)
        policy = log_policy.exp()
        paid = torch.from_numpy(best_discriminator(np.asarray(expert), np.asarray(policy.detach())))
        objective = {
            "likelihood": -(expert * log_policy).sum(),
            "forward": (expert * (expert.log() - log_policy)).sum(),
            "adversary": -(policy * paid).sum(),  # the score-function gradient for fixed pay
            "reverse": (policy * (log_policy - expert.log())).sum(),
        }[of_policy]
        (found,) = torch.autograd.grad(objective, logits)
        return np.asarray(found)

    np.testing.assert_allclose(gradient("likelihood"), gradient("forward"), atol=1e-12)
    np.testing.assert_allclose(gradient("adversary"), gradient("reverse"), atol=1e-9)
    assert np.abs(gradient("forward") - gradient("reverse")).max() > 0.05
