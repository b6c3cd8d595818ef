"""The oracle itself: listed by hand, held against finite differences, and the classical identities of credit."""

import numpy as np
import pytest
import torch

from laurel.errors import ConfigurationError
from laurel.theory import (
    World,
    example_dialogue,
    example_logits,
    example_world,
    expected_return,
    history_values,
    kl_divergence,
    optimal_path_probs,
    path_log_probs,
    path_returns,
    path_values,
    return_gradient,
    score_function_gradient,
    single_turn,
    soft_bellman_policy,
)
from laurel.tree import Ending

WORLDS = {"single turn": example_world(), "dialogue": example_dialogue()}


@pytest.fixture(params=WORLDS)
def world(request) -> World:
    return WORLDS[request.param]


def test_listed_by_hand():
    world = single_turn(vocabulary=2, horizon=2, score=lambda answer: float(answer == (1, 0)))
    assert [path.tokens for path in world.paths] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert world.states == {(): 0, (0,): 1, (1,): 2}
    logits = torch.log(torch.tensor([[0.25, 0.75], [0.5, 0.5], [0.2, 0.8]], dtype=torch.float64))
    np.testing.assert_allclose(path_log_probs(world, logits).exp(), [0.125, 0.125, 0.15, 0.6])
    assert expected_return(world, logits).item() == pytest.approx(0.15)
    values = history_values(world, logits)
    assert values == pytest.approx({(): 0.15, (0,): 0.0, (1,): 0.2})
    # dJ/dlogits[s, a] = (mass of s) pi(a|s) (Q(s, a) - V(s))
    expected = [[0.25 * (0 - 0.15), 0.75 * (0.2 - 0.15)], [0, 0], [0.75 * 0.2 * 0.8, 0.75 * 0.8 * -0.2]]
    np.testing.assert_allclose(return_gradient(world, logits), expected, atol=1e-15)


def test_end_token_and_length_limit_end_differently():
    endings = {path.tokens: path.replies[-1].ending for path in example_world().paths}
    assert endings[(2,)] is Ending.TERMINATED
    assert endings[(1, 2)] is Ending.TERMINATED
    assert endings[(1, 1)] is Ending.TRUNCATED


def test_probabilities_sum_to_one(world):
    assert path_log_probs(world, example_logits(world)).exp().sum().item() == pytest.approx(1, abs=1e-14)


def test_gradient_equals_finite_differences(world):
    logits, width = example_logits(world), 1e-4
    numeric = np.zeros(tuple(logits.shape))
    for cell in np.ndindex(*logits.shape):
        # Fourth-order central differences: the error is O(width^4), under the rounding of the quotient.
        moved = []
        for steps in (-2, -1, 1, 2):
            shifted = logits.clone()
            shifted[cell] += steps * width * 10
            moved.append(expected_return(world, shifted).item())
        numeric[cell] = (moved[0] - 8 * moved[1] + 8 * moved[2] - moved[3]) / (12 * width * 10)
    np.testing.assert_allclose(return_gradient(world, logits), numeric, atol=1e-11)


def advantages(world: World, kind: str) -> list[list[float]]:
    values = history_values(world, example_logits(world))
    rows = []
    for path in world.paths:
        value, rewards = path_values(values, path), np.array(path.rewards)
        to_go = np.cumsum(rewards[::-1])[::-1]
        rows.append(
            {
                "return": np.full(len(rewards), rewards.sum()),
                "return to go": to_go,
                "return - V(s_t)": to_go - value[:-1],
                "r + V(s_t+1) - V(s_t)": rewards + value[1:] - value[:-1],
                "return - V(s_t+1)": to_go - rewards - value[1:],
            }[kind].tolist()
        )
    return rows


@pytest.mark.parametrize("kind", ["return", "return to go", "return - V(s_t)", "r + V(s_t+1) - V(s_t)"])
def test_every_baseline_before_the_token_gives_the_exact_gradient(world, kind):
    logits = example_logits(world)
    estimated = score_function_gradient(world, logits, advantages(world, kind))
    np.testing.assert_allclose(estimated, return_gradient(world, logits), atol=1e-15)


def test_a_baseline_after_the_token_has_no_gradient_at_all(world):
    # The classic off-by-one: what is left is independent of the token, given the state after it.
    estimated = score_function_gradient(world, example_logits(world), advantages(world, "return - V(s_t+1)"))
    np.testing.assert_allclose(estimated, 0, atol=1e-15)


def test_the_kl_regularised_optimum(world):
    reference, beta = example_logits(world), 0.3
    best = optimal_path_probs(world, reference, beta)
    log_z = torch.logsumexp(path_log_probs(world, reference) + path_returns(world) / beta, 0)
    token_level = soft_bellman_policy(world, reference, beta)
    from_tokens = [
        np.prod([token_level[history][token] for history, token in zip(path.histories, path.tokens, strict=True)])
        for path in world.paths
    ]
    assert 0.5 * np.abs(best - from_tokens).sum() < 1e-15  # total variation: both views, one optimum
    table = torch.tensor(np.log([token_level[history] for history in world.states]))
    reached = expected_return(world, table) - beta * kl_divergence(world, table, reference)
    assert reached.item() == pytest.approx(beta * log_z.item(), abs=1e-14)
    other = example_logits(world) * 1.1
    assert expected_return(world, other) - beta * kl_divergence(world, other, reference) < reached


def test_kl_of_a_policy_to_itself_is_zero(world):
    logits = example_logits(world)
    assert kl_divergence(world, logits, logits.clone()).item() == 0
    assert kl_divergence(world, logits, -logits) > 0.1


def test_states_may_merge():
    # The policy sees only how many tokens it wrote; the score depends on the last alone, so futures agree.
    base = single_turn(vocabulary=2, horizon=3, score=lambda answer: float(answer[-1]))
    merged = World(2, base.respond, state=len)
    assert len(merged.states) == 3 and len(merged.paths) == 8


def test_a_world_too_large_to_list_says_so():
    with pytest.raises(ConfigurationError, match="more than"):
        _ = single_turn(vocabulary=10, horizon=9, score=lambda answer: 0.0).paths
