"""KL estimators: value and gradient, summed over the whole vocabulary. Entropy."""

from dataclasses import replace

import pytest
import torch

from laurel.errors import ConfigurationError
from laurel.objectives import EntropyBonus, KLPenalty, TokenBatch, k1, k2, k3

LOGITS = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=torch.float64)
REFERENCE = torch.log_softmax(torch.tensor([0.0, 0.5, -0.4, 1.0], dtype=torch.float64), -1)


def expectation(estimator, logits: torch.Tensor) -> tuple[float, torch.Tensor]:
    """E_pi of the estimator, and E_pi of its gradient: pi draws the token, and is not differentiated for it."""
    table = logits.clone().requires_grad_()
    log_probs = torch.log_softmax(table, -1)
    value = (log_probs.detach().exp() * estimator(log_probs, REFERENCE)).sum()
    (gradient,) = torch.autograd.grad(value, table)
    return value.item(), gradient


def divergence(forward: bool) -> tuple[float, torch.Tensor]:
    table = LOGITS.clone().requires_grad_()
    log_probs = torch.log_softmax(table, -1)
    if forward:
        value = (REFERENCE.exp() * (REFERENCE - log_probs)).sum()
    else:
        value = (log_probs.exp() * (log_probs - REFERENCE)).sum()
    (gradient,) = torch.autograd.grad(value, table)
    return value.item(), gradient


def test_k1_and_k3_are_unbiased_in_value():
    exact, _ = divergence(forward=False)
    assert expectation(k1, LOGITS)[0] == pytest.approx(exact, abs=1e-14)
    assert expectation(k3, LOGITS)[0] == pytest.approx(exact, abs=1e-14)


def test_k2_is_biased_in_value_by_the_third_order():
    def bias(distance: float) -> float:
        logits = REFERENCE + distance * (LOGITS - REFERENCE)
        return expectation(k2, logits)[0] - expectation(k1, logits)[0]

    # Halving the distance divides the bias by 8 (a little more or less: the fourth order remains).
    assert bias(0.02) / bias(0.01) == pytest.approx(8, rel=0.05)


def test_gradient_of_k1_is_zero_of_k2_reverse_and_of_k3_forward():
    torch.testing.assert_close(expectation(k1, LOGITS)[1], torch.zeros(4, dtype=torch.float64), atol=1e-14, rtol=0)
    torch.testing.assert_close(expectation(k2, LOGITS)[1], divergence(forward=False)[1], atol=1e-14, rtol=0)
    torch.testing.assert_close(expectation(k3, LOGITS)[1], divergence(forward=True)[1], atol=1e-14, rtol=0)
    assert (divergence(True)[1] - divergence(False)[1]).abs().max() > 0.05  # the two differ, so the test can fail


def test_k3_is_never_negative():
    distances = torch.linspace(-5, 5, 101, dtype=torch.float64)
    assert (k3(distances, torch.zeros(101, dtype=torch.float64)) >= 0).all()
    assert k3(torch.zeros(1), torch.zeros(1)).item() == 0


def batch(reference: torch.Tensor | None = None) -> TokenBatch:
    log_probs = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    entropy = torch.tensor([0.5, 1.5], dtype=torch.float64, requires_grad=True)
    return TokenBatch(log_probs, log_probs, log_probs, entropy, log_probs, torch.arange(2), reference)


def test_penalty_hand_computed():
    tokens = batch(torch.tensor([-1.0, -1.0], dtype=torch.float64))
    loss, seen = KLPenalty(0.5, "k2")(tokens)
    assert loss.tolist() == [0.0, 0.25]
    loss, seen = KLPenalty(0.5, "k3")(tokens)
    assert loss.tolist() == pytest.approx([0.0, 0.5 * (2.718281828459045 - 2)])
    assert seen == {}


def test_the_exact_penalty_is_the_divergence_times_its_coefficient():
    tokens = batch(torch.tensor([-1.0, -1.0], dtype=torch.float64))
    divergence = torch.tensor([0.3, 0.0], dtype=torch.float64, requires_grad=True)
    loss, _ = KLPenalty(0.5, "exact")(replace(tokens, reference_divergence=divergence))
    assert loss.tolist() == [0.15, 0.0]
    assert torch.autograd.grad(loss.sum(), divergence)[0].tolist() == [0.5, 0.5]
    with pytest.raises(ConfigurationError, match="reference"):
        KLPenalty(0.5, "exact")(tokens)
    assert KLPenalty(0.5, "exact").needs_divergence and not KLPenalty(0.5, "k2").needs_divergence


def test_k1_is_refused_in_a_loss():
    with pytest.raises(ConfigurationError, match="zero"):
        KLPenalty(0.1, "k1")


@pytest.mark.parametrize(("coefficient", "estimator"), [(-0.1, "k3"), (0.1, "k4"), (float("nan"), "k3")])
def test_nonsense_is_refused(coefficient, estimator):
    with pytest.raises(ConfigurationError):
        KLPenalty(coefficient, estimator)


def test_a_penalty_without_a_reference_says_so():
    with pytest.raises(ConfigurationError, match="reference"):
        KLPenalty(0.1)(batch())


def test_entropy_bonus():
    tokens = batch()
    loss, _ = EntropyBonus(0.1)(tokens)
    assert loss.tolist() == pytest.approx([-0.05, -0.15])
    (gradient,) = torch.autograd.grad(loss.sum(), tokens.entropy)
    assert gradient.tolist() == pytest.approx([-0.1, -0.1])
