"""Log-probability times advantage: values and gradients by hand."""

import pytest
import torch

from laurel.objectives import (
    NegativeLogLikelihood,
    PolicyGradient,
    TokenBatch,
    negative_log_likelihood,
    policy_gradient,
)


def test_policy_gradient_hand_computed():
    log_probs = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([2.0, -3.0, 0.0], dtype=torch.float64)
    loss = policy_gradient(log_probs, advantages)
    assert loss.tolist() == [2.0, -6.0, 0.0]
    (gradient,) = torch.autograd.grad(loss.sum(), log_probs)
    assert gradient.tolist() == [-2.0, 3.0, 0.0]


def test_negative_log_likelihood_hand_computed():
    log_probs = torch.tensor([-1.0, -2.0], requires_grad=True)
    loss = negative_log_likelihood(log_probs)
    assert loss.tolist() == [1.0, 2.0]
    (gradient,) = torch.autograd.grad(loss.sum(), log_probs)
    assert gradient.tolist() == [-1.0, -1.0]


def test_as_parts_of_an_algorithm():
    tokens = torch.tensor([-1.0, -2.0], dtype=torch.float64)
    nothing = torch.full_like(tokens, float("nan"))
    batch = TokenBatch(tokens, nothing, nothing, nothing, torch.tensor([3.0, 1.0]).double(), torch.tensor([0, 1]))
    assert PolicyGradient()(batch)[0].tolist() == [3.0, 2.0]
    loss, diagnostics = NegativeLogLikelihood()(batch)
    assert loss.tolist() == [1.0, 2.0]  # the advantage is not read: a demonstration is a demonstration
    assert diagnostics["cloning/token_probability"].tolist() == pytest.approx([0.36787944, 0.13533528])
