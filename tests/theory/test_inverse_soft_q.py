"""Inverse soft Q-learning where every answer is listed: which policy it rests at, and which reward it finds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from laurel.objectives import InverseSoftQ, TokenBatch, implied_rewards
from laurel.theory import example_logits, example_world, occupancy, path_log_probs, total_variation
from laurel.tree import FloatArray

WORLD = example_world()
EXPERT = path_log_probs(WORLD, example_logits(WORLD)).exp()
STATES = torch.tensor([state for path in WORLD.paths for state in path.states])
TOKENS = torch.tensor([token for path in WORLD.paths for token in path.tokens])
OWNER = torch.tensor([number for number, path in enumerate(WORLD.paths) for _ in path.tokens])
"""The tokens of all answers, end to end."""


def batch(logits: torch.Tensor) -> TokenBatch:
    """Every answer of the world, once, as the learner would lay it out."""
    log_probs = torch.log_softmax(logits, -1)[STATES, TOKENS]
    nothing = torch.zeros_like(log_probs)
    return TokenBatch(
        log_probs=log_probs, old_log_probs=log_probs.detach(), sampler_log_probs=nothing, entropy=nothing,
        advantages=nothing, rollout=OWNER, log_normaliser=torch.logsumexp(logits, -1)[STATES],
    )  # fmt: skip


def loss(logits: torch.Tensor, objective: InverseSoftQ) -> torch.Tensor:
    """The expectation of the objective over the expert's answers."""
    return (EXPERT[OWNER] * objective(batch(logits))[0]).sum()


def minimum(of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    logits = torch.zeros(len(WORLD.states), WORLD.vocabulary, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [logits], max_iter=3000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        search.zero_grad()
        value = of(logits)
        value.backward()
        return value

    search.step(closure)
    return logits.detach()


def probabilities(logits: torch.Tensor) -> FloatArray:
    return np.asarray(path_log_probs(WORLD, logits).exp())


def rewards(logits: torch.Tensor, discount: float = 1.0) -> FloatArray:
    """r(s, a) of the logits, [S, V], by the recursion: Q - gamma V of the state that follows."""
    values = torch.logsumexp(logits, -1)
    following = torch.zeros_like(logits)
    for path in WORLD.paths:
        for step, (state, token) in enumerate(zip(path.states, path.tokens, strict=True)):
            if step + 1 < len(path.states):
                following[state, token] = values[path.states[step + 1]]
    return np.asarray(logits - discount * following)


@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_the_rewards_of_a_batch_are_those_of_the_recursion(discount: float) -> None:
    logits = torch.randn(len(WORLD.states), WORLD.vocabulary, dtype=torch.float64, generator=torch.manual_seed(3))
    seen = batch(logits)
    assert seen.log_normaliser is not None
    ours = implied_rewards(seen.log_probs, seen.log_normaliser, seen.rollout, discount=discount)
    np.testing.assert_allclose(ours, rewards(logits, discount)[STATES, TOKENS], atol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_it_is_the_objective_of_the_paper_where_values_telescope(weight: float) -> None:
    """E_E[phi(Q - V')] - E[V(first)], phi(x) = x - lambda x^2, from its own definition; also the gradient."""
    logits = torch.randn(len(WORLD.states), WORLD.vocabulary, dtype=torch.float64, generator=torch.manual_seed(4))
    logits.requires_grad_()
    ours = -loss(logits, InverseSoftQ(weight))
    values = torch.logsumexp(logits, -1)
    total = -values[WORLD.states[()]]
    for chance, path in zip(EXPERT, WORLD.paths, strict=True):
        for step, (state, token) in enumerate(zip(path.states, path.tokens, strict=True)):
            after = values[path.states[step + 1]] if step + 1 < len(path.states) else 0.0
            reward = logits[state, token] - after
            total = total + chance * (reward - weight * reward**2)
    assert float(ours.detach()) == pytest.approx(float(total.detach()), abs=1e-12)
    for one, other in zip(torch.autograd.grad(ours, logits), torch.autograd.grad(total, logits), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_without_a_regulariser_the_policy_is_the_experts() -> None:
    assert total_variation(probabilities(minimum(lambda z: loss(z, InverseSoftQ(0.0)))), EXPERT.numpy()) < 1e-9


@pytest.mark.parametrize("weight", [0.02, 0.2])
def test_the_occupancy_that_it_rests_at_is_the_experts_times_the_slope_of_phi(weight: float) -> None:
    """rho_pi(s, a) = rho_E(s, a) phi'(r(s, a)), phi'(x) = 1 - 2 lambda x: the fixed point of the game, exactly."""
    logits = minimum(lambda z: loss(z, InverseSoftQ(weight)))
    ours, expert = occupancy(WORLD, probabilities(logits)), occupancy(WORLD, EXPERT.numpy())
    np.testing.assert_allclose(ours, expert * (1 - 2 * weight * rewards(logits)), atol=1e-9)
    assert np.abs(ours - expert).max() > 1e-3 * weight  # and that is not the expert's own


def test_the_policy_tends_to_the_experts_as_the_regulariser_vanishes() -> None:
    weights = (0.04, 0.02, 0.01)
    apart = [
        total_variation(probabilities(minimum(lambda z, w=w: loss(z, InverseSoftQ(w)))), EXPERT.numpy())  # type: ignore[misc]
        for w in weights
    ]
    assert apart[0] > apart[1] > apart[2]
    assert apart[1] / apart[2] == pytest.approx(2, rel=0.05)  # to first order in it


def test_the_recovered_reward_has_the_policy_as_its_optimum() -> None:
    """Soft value iteration on r alone: V(s) = logsumexp(r + V'), pi = exp(r + V' - V)."""
    logits = minimum(lambda z: loss(z, InverseSoftQ(0.1)))
    paid = rewards(logits)
    by_path = torch.tensor([sum(paid[s, a] for s, a in zip(p.states, p.tokens, strict=True)) for p in WORLD.paths])
    np.testing.assert_allclose(torch.softmax(by_path, 0), probabilities(logits), atol=1e-10)
