"""The clipped ratio: where it has a gradient, and where it has none."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laurel.errors import ConfigurationError
from laurel.objectives import ClippedRatio, TokenBatch, clipped

numbers = st.floats(-3, 3, allow_subnormal=False)


def evaluate(log_ratio: float, advantage: float, low: float, high: float) -> tuple[float, float]:
    """Loss and its gradient with respect to the log-probability."""
    old = torch.tensor([-1.25], dtype=torch.float64)
    log_probs = (old + log_ratio).requires_grad_()
    loss = clipped(log_probs, old, torch.tensor([advantage], dtype=torch.float64), low=low, high=high)
    (gradient,) = torch.autograd.grad(loss.sum(), log_probs)
    return loss.item(), gradient.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.56, 0.0),  # beyond 1.28: paid as 1.28, no incentive left
        (0.5, 2.0, -1.0, -1.0),  # below 0.8 with a good token: full pull back
        (0.5, -2.0, 1.6, 0.0),  # below 0.8 with a bad token: enough
        (1.5, -2.0, 3.0, 3.0),  # above 1.28 with a bad token: full push down
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_hand_computed(ratio, advantage, loss, gradient):
    value, slope = evaluate(math.log(ratio), advantage, low=0.2, high=0.28)
    assert value == pytest.approx(loss, abs=1e-12)
    assert slope == pytest.approx(gradient, abs=1e-12)


@given(numbers, numbers, st.floats(0, 0.9), st.floats(0, 2))
def test_gradient_is_zero_exactly_where_the_incentive_is_used_up(log_ratio, advantage, low, high):
    ratio = math.exp(log_ratio)
    if min(abs(ratio - 1 - high), abs(ratio - 1 + low)) < 1e-9 or abs(advantage) < 1e-9:
        return
    used_up = (advantage > 0 and ratio > 1 + high) or (advantage < 0 and ratio < 1 - low)
    _, slope = evaluate(log_ratio, advantage, low, high)
    assert slope == pytest.approx(0.0 if used_up else -ratio * advantage, rel=1e-9)


@given(numbers, numbers, st.floats(0, 0.9), st.floats(0, 2))
def test_it_never_promises_more_than_the_plain_ratio(log_ratio, advantage, low, high):
    loss, _ = evaluate(log_ratio, advantage, low, high)
    assert loss >= -math.exp(log_ratio) * advantage - 1e-12


def test_at_ratio_one_it_is_the_policy_gradient():
    log_probs = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([1.5, -0.5], dtype=torch.float64)
    loss = clipped(log_probs, log_probs.detach(), advantages, low=0.2, high=0.2)
    (gradient,) = torch.autograd.grad(loss.sum(), log_probs)
    assert gradient.tolist() == [-1.5, 0.5]


def test_diagnostics_count_the_clipped_tokens():
    old = torch.zeros(4, dtype=torch.float64)
    now = torch.log(torch.tensor([1.5, 0.5, 1.5, 1.0], dtype=torch.float64))
    advantages = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    _, seen = ClippedRatio(0.2, 0.28)(TokenBatch(now, old, old, old, advantages, torch.arange(4)))
    assert seen["ratio/clipped_high"].tolist() == [1, 0, 0, 0]
    assert seen["ratio/clipped_low"].tolist() == [0, 1, 0, 0]
    assert seen["ratio/mean"].tolist() == pytest.approx([1.5, 0.5, 1.5, 1.0])
    assert seen["ratio/kl_old"].tolist() == pytest.approx(
        [0.5 - math.log(1.5), -0.5 + math.log(2), 0.5 - math.log(1.5), 0]
    )
    assert (seen["ratio/kl_old"] >= 0).all()


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.2), (1.1, 0.2), (0.2, -0.1), (float("nan"), 0.2)])
def test_nonsense_ranges_are_refused(low, high):
    with pytest.raises(ConfigurationError, match="clip"):
        ClippedRatio(low, high)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.5, -2.0, 3.0, 3.0),  # up to c the push down is whole
        (4.0, -2.0, 6.0, 0.0),  # beyond c = 3 it costs 3 * 2 and pushes no more
        (4.0, 2.0, -2.56, 0.0),  # a good token is not touched by c
        (0.5, -2.0, 1.6, 0.0),
    ],
)
def test_dual_clip_hand_computed(ratio, advantage, loss, gradient):
    old = torch.tensor([-3.0], dtype=torch.float64)
    log_probs = (old + math.log(ratio)).requires_grad_()
    value = clipped(log_probs, old, torch.tensor([advantage], dtype=torch.float64), low=0.2, high=0.28, dual=3.0)
    (slope,) = torch.autograd.grad(value.sum(), log_probs)
    assert value.item() == pytest.approx(loss, abs=1e-12)
    assert slope.item() == pytest.approx(gradient, abs=1e-12)


def test_dual_clip_must_lie_above_one():
    with pytest.raises(ConfigurationError, match="dual"):
        ClippedRatio(dual=1.0)
