"""The surrogate: the ratio times the advantage, whose gradient at the start is the policy gradient."""

from __future__ import annotations

import math

import torch

from laurel.objectives import policy_gradient, surrogate


def test_by_hand() -> None:
    """Ratios 2, 1/2 and 1 with advantages 3, -1 and 5; far beyond any clip range."""
    old = torch.log(torch.tensor([0.2, 0.6, 0.1], dtype=torch.float64))
    now = old + torch.tensor([math.log(2), -math.log(2), 0.0], dtype=torch.float64)
    worth = torch.tensor([3.0, -1.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(surrogate(now, old, worth), torch.tensor([-6.0, 0.5, -5.0], dtype=torch.float64))


def test_at_the_start_it_has_the_gradient_of_the_policy_gradient() -> None:
    old = torch.tensor([-1.0, -0.3, -2.0], dtype=torch.float64)
    worth = torch.tensor([3.0, -1.0, 0.0], dtype=torch.float64)
    now = old.clone().requires_grad_()
    (ours,) = torch.autograd.grad(surrogate(now, old, worth).sum(), now)
    (plain,) = torch.autograd.grad(policy_gradient(now, worth).sum(), now)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(ours, -worth)
