"""Preference losses: values worked out by hand, gradients in closed form, and what the papers say of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laurel.objectives import (
    dpo_loss,
    ipo_loss,
    kto_loss,
    mismatched_divergence,
    odds_ratio_loss,
    robust_dpo_loss,
    simpo_loss,
)

LOG2, LOG3 = math.log(2), math.log(3)


def t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_dpo_by_hand() -> None:
    # m = 0: log 2. m = log 3: sigmoid 3/4, so log(4/3); with a quarter of flipped labels 3/4 log(4/3) + 1/4 log 4.
    assert dpo_loss(t(0.4), t(0.4), beta=0.1).item() == pytest.approx(LOG2)
    assert dpo_loss(t(LOG3), t(0.0), beta=1.0).item() == pytest.approx(math.log(4 / 3))
    assert dpo_loss(t(0.0), t(-2 * LOG3), beta=0.5).item() == pytest.approx(math.log(4 / 3))
    conservative = dpo_loss(t(LOG3), t(0.0), beta=1.0, label_smoothing=0.25).item()
    assert conservative == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4))


def test_robust_dpo_by_hand() -> None:
    value = robust_dpo_loss(t(LOG3), t(0.0), beta=1.0, label_smoothing=0.25).item()
    assert value == pytest.approx((0.75 * math.log(4 / 3) - 0.25 * math.log(4)) / 0.5)


def test_ipo_by_hand() -> None:
    assert ipo_loss(t(0.3), t(0.3), tau=0.5).item() == pytest.approx(1.0)
    assert ipo_loss(t(0.3), t(0.3), tau=0.1).item() == pytest.approx(25.0)  # 1 / (2 tau)^2 at the start of a run
    assert ipo_loss(t(7.0), t(2.0), tau=0.1).item() == pytest.approx(0.0)


def test_kto_by_hand() -> None:
    # beta (r - z) = log 3: 1 - 3/4 for a good answer, 1 - 1/4 for a bad one.
    ratios, good = t(LOG3 + 0.5, LOG3 + 0.5, 0.5), torch.tensor([True, False, True])
    values = kto_loss(ratios, good, t(0.5)[0], beta=1.0, desirable_weight=2.0, undesirable_weight=4.0)
    assert values.tolist() == pytest.approx([0.5, 3.0, 1.0])


def test_the_mismatched_divergence_is_a_mean_that_is_never_negative() -> None:
    ratios = t(1.0, -0.5).requires_grad_()
    assert mismatched_divergence(ratios).item() == 0.25
    assert not mismatched_divergence(ratios).requires_grad
    assert mismatched_divergence(t(-1.0, 0.5)).item() == 0.0
    assert mismatched_divergence(t()).item() == 0.0


def test_orpo_by_hand() -> None:
    # p = 1/2 and 1/4 have odds 1 and 1/3: log 2 + w log(4/3).
    value = odds_ratio_loss(t(-LOG2), t(-2 * LOG2), weight=0.5).item()
    assert value == pytest.approx(LOG2 + 0.5 * math.log(4 / 3))
    even = odds_ratio_loss(t(-LOG2), t(-LOG2), weight=2.0).item()
    assert even == pytest.approx(3 * LOG2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_orpo_is_finite_at_both_ends(dtype: torch.dtype) -> None:
    means = torch.tensor([0.0, -1e-12, -1e-4, -LOG2, -50.0, -800.0], dtype=dtype)
    chosen = means[:, None].expand(6, 6).clone().requires_grad_()
    rejected = means[None, :].expand(6, 6).clone().requires_grad_()
    loss = odds_ratio_loss(chosen, rejected, weight=0.1)
    gradients = torch.autograd.grad(loss.sum(), (chosen, rejected))
    assert bool(torch.isfinite(loss).all()) and all(bool(torch.isfinite(g).all()) for g in gradients)


def test_simpo_by_hand() -> None:
    assert simpo_loss(t(-0.5), t(-1.0), beta=2.0, margin=1.0).item() == pytest.approx(LOG2)
    assert simpo_loss(t(-0.5), t(-1.0), beta=2.0, margin=1.0 - LOG3).item() == pytest.approx(math.log(4 / 3))


Closed = Callable[[float, float], tuple[float, float]]


def opposite(value: float) -> tuple[float, float]:
    return value, -value


B, E, TAU, W, G = 0.3, 0.2, 0.4, 0.7, 0.6


def odds_gradient(chosen: float, rejected: float) -> tuple[float, float]:
    """log odds(p) = m - log(1 - e^m) has the derivative 1 / (1 - p)."""

    def log_odds(mean: float) -> float:
        return mean - math.log(1 - math.exp(mean))

    pull = W * sigmoid(log_odds(rejected) - log_odds(chosen))
    return -1 - pull / (1 - math.exp(chosen)), pull / (1 - math.exp(rejected))


GRADIENTS: dict[str, tuple[Callable[[torch.Tensor, torch.Tensor], torch.Tensor], Closed]] = {
    "dpo": (
        lambda c, r: dpo_loss(c, r, beta=B),
        lambda c, r: opposite(-B * sigmoid(-B * (c - r))),
    ),
    "conservative": (
        lambda c, r: dpo_loss(c, r, beta=B, label_smoothing=E),
        lambda c, r: opposite(B * (sigmoid(B * (c - r)) - (1 - E))),
    ),
    "robust": (
        lambda c, r: robust_dpo_loss(c, r, beta=B, label_smoothing=E),
        lambda c, r: opposite(-B * ((1 - E) * sigmoid(-B * (c - r)) + E * sigmoid(B * (c - r))) / (1 - 2 * E)),
    ),
    "ipo": (lambda c, r: ipo_loss(c, r, tau=TAU), lambda c, r: opposite(2 * (c - r - 1 / (2 * TAU)))),
    "orpo": (lambda c, r: odds_ratio_loss(c, r, weight=W), odds_gradient),
    "simpo": (
        lambda c, r: simpo_loss(c, r, beta=B, margin=G),
        lambda c, r: opposite(-B * sigmoid(G - B * (c - r))),
    ),
    "kto": (
        lambda c, r: (
            kto_loss(c, torch.tensor([True]), t(0.3)[0], beta=B) + kto_loss(r, torch.tensor([False]), t(0.3)[0], beta=B)
        ),
        lambda c, r: (
            -B * sigmoid(B * (c - 0.3)) * sigmoid(B * (0.3 - c)),
            B * sigmoid(B * (r - 0.3)) * sigmoid(B * (0.3 - r)),
        ),
    ),
}


@pytest.mark.parametrize("name", GRADIENTS)
@given(chosen=st.floats(-8, -0.01), rejected=st.floats(-8, -0.01))
def test_gradients_in_closed_form(name: str, chosen: float, rejected: float) -> None:
    loss, closed = GRADIENTS[name]
    left, right = t(chosen).requires_grad_(), t(rejected).requires_grad_()
    found = torch.autograd.grad(loss(left, right).sum(), (left, right))
    assert [g.item() for g in found] == pytest.approx(closed(chosen, rejected), rel=1e-9, abs=1e-12)


@given(chosen=st.floats(-4, 4), rejected=st.floats(-4, 4), flipped=st.floats(0.01, 0.45))
def test_the_robust_loss_of_flipped_labels_is_on_average_that_of_the_true_ones(
    chosen: float, rejected: float, flipped: float
) -> None:
    """Theorem 3.1 of its paper: (1 - e) L(w, l) + e L(l, w) = DPO(w, l)."""
    left, right = t(chosen), t(rejected)
    right_way = robust_dpo_loss(left, right, beta=B, label_smoothing=flipped)
    wrong_way = robust_dpo_loss(right, left, beta=B, label_smoothing=flipped)
    average = (1 - flipped) * right_way + flipped * wrong_way
    assert average.item() == pytest.approx(dpo_loss(left, right, beta=B).item(), abs=1e-9)


def test_where_the_gradient_vanishes() -> None:
    """Plain DPO never rests; conservative at log((1 - e) / e), IPO at 1 / (2 tau)."""
    rest = math.log((1 - E) / E) / B
    for loss, margin in (
        (lambda m: dpo_loss(m, t(0.0), beta=B, label_smoothing=E), rest),
        (lambda m: ipo_loss(m, t(0.0), tau=TAU), 1 / (2 * TAU)),
    ):
        point = t(margin).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(point).sum(), point)
        assert abs(gradient.item()) < 1e-12
    far = t(50.0).requires_grad_()
    (gradient,) = torch.autograd.grad(dpo_loss(far, t(0.0), beta=B).sum(), far)
    assert gradient.item() < 0
