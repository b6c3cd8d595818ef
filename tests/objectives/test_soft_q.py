"""Inverse soft Q-learning per token: values by hand, cloning as its special case, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from laurel.errors import ConfigurationError
from laurel.objectives import InverseSoftQ, NegativeLogLikelihood, TokenBatch, implied_rewards


def batch(log_probs: list[float], values: list[float], rollout: list[int]) -> TokenBatch:
    said = torch.tensor(log_probs, dtype=torch.float64, requires_grad=True)
    nothing = torch.zeros(len(log_probs), dtype=torch.float64)
    return TokenBatch(
        log_probs=said, old_log_probs=said.detach(), sampler_log_probs=nothing, entropy=nothing, advantages=nothing,
        rollout=torch.tensor(rollout), log_normaliser=torch.tensor(values, dtype=torch.float64, requires_grad=True),
    )  # fmt: skip


def test_two_answers_by_hand() -> None:
    """Rewards: -1 + 3 - 5, -2 + 5 | -0.5 + 1. With gamma 1/2 the first is -1 + 3 - 2.5."""
    tokens = batch([-1.0, -2.0, -0.5], [3.0, 5.0, 1.0], [4, 4, 7])
    assert tokens.log_normaliser is not None
    given = (tokens.log_probs, tokens.log_normaliser, tokens.rollout)
    assert implied_rewards(*given).tolist() == [-3.0, 3.0, 0.5]
    assert implied_rewards(*given, discount=0.5).tolist() == [-0.5, 3.0, 0.5]
    losses, diagnostics = InverseSoftQ(0.1)(tokens)
    assert losses.tolist() == pytest.approx([1 + 0.9, 2 + 0.9, 0.5 + 0.025])
    assert diagnostics["iq_learn/reward"].tolist() == [-3.0, 3.0, 0.5]
    losses.sum().backward()
    # d/dV(first) = 2 lambda r_1; d/dV(second) = 2 lambda (r_2 - r_1).
    assert tokens.log_normaliser.grad is not None
    assert tokens.log_normaliser.grad.tolist() == pytest.approx([-0.6, 1.2, 0.1])


def test_without_a_regulariser_it_is_cloning() -> None:
    tokens = batch([-1.0, -2.0], [3.0, 5.0], [0, 0])
    assert InverseSoftQ(0.0)(tokens)[0].tolist() == NegativeLogLikelihood()(tokens)[0].tolist()


def test_what_makes_no_sense_is_refused() -> None:
    for wrong in ({"regulariser": -1.0}, {"regulariser": float("inf")}, {"discount": 1.5}):
        with pytest.raises(ConfigurationError):
            InverseSoftQ(**wrong)
    bare = batch([-1.0], [1.0], [0])
    with pytest.raises(ConfigurationError, match="normaliser"):
        InverseSoftQ()(TokenBatch(**{**vars(bare), "log_normaliser": None}))
