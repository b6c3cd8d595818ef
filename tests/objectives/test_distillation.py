"""The divergences of distillation: values by hand, identities, limits and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laurel.errors import ConfigurationError
from laurel.objectives import Distillation, Divergence, TokenBatch
from laurel.objectives.distillation import FORMS

Logits = st.lists(st.floats(-8, 8), min_size=4, max_size=4)


def log_softmax(logits: list[float]) -> torch.Tensor:
    return torch.log_softmax(torch.tensor([logits], dtype=torch.float64), -1)


def greatest_divergence(mixture: float) -> float:
    """The bound of the generalised Jensen-Shannon divergence, reached by distributions that share no token, in nats."""
    return -mixture * math.log(mixture) - (1 - mixture) * math.log(1 - mixture)


def by_hand(form: str, mixture: float = 0.5) -> float:
    """Learner (1/4, 3/4), teacher (1/2, 1/2)."""
    log_p = torch.tensor([[0.25, 0.75]], dtype=torch.float64).log()
    log_q = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    return float(Divergence(form, mixture).value(log_p, log_q))


def test_values_by_hand() -> None:
    """forward = 1/2 log(2) + 1/2 log(2/3); reverse = 1/4 log(1/2) + 3/4 log(3/2); the mixture is (3/8, 5/8)."""
    assert by_hand("forward") == pytest.approx(0.5 * math.log(4 / 3))
    assert by_hand("reverse") == pytest.approx(0.75 * math.log(3) - math.log(2))
    teacher = 0.5 * math.log(4 / 3) + 0.5 * math.log(4 / 5)
    learner = 0.25 * math.log(2 / 3) + 0.75 * math.log(6 / 5)
    assert by_hand("jensen_shannon") == pytest.approx((teacher + learner) / 2)
    # w = 1/4: m = (5/16, 11/16).
    teacher = 0.5 * math.log(8 / 5) + 0.5 * math.log(8 / 11)
    learner = 0.25 * math.log(4 / 5) + 0.75 * math.log(12 / 11)
    assert by_hand("jensen_shannon", 0.25) == pytest.approx(teacher / 4 + 3 * learner / 4)


@given(one=Logits, other=Logits, form=st.sampled_from(FORMS), mixture=st.floats(0.05, 0.95))
def test_none_is_negative_and_the_middle_is_bounded(
    one: list[float], other: list[float], form: str, mixture: float
) -> None:
    divergence = Divergence(form, mixture)
    value = float(divergence.value(log_softmax(one), log_softmax(other)))
    assert value >= -1e-15
    if form == "jensen_shannon":
        assert value <= greatest_divergence(mixture) + 1e-12
        mirrored = Divergence(form, 1 - mixture).value(log_softmax(other), log_softmax(one))
        assert float(mirrored) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("mixture", [0.1, 0.3, 0.5, 0.77])
@pytest.mark.parametrize("form", FORMS)
def test_equal_distributions_are_at_distance_zero_exactly(form: str, mixture: float) -> None:
    logits = torch.log_softmax(torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), -1)
    divergence = Divergence(form, mixture)
    assert torch.equal(divergence.value(logits, logits), torch.zeros(5))
    assert torch.equal(divergence.logit_gradient(logits, logits), torch.zeros(5, 7))


def test_the_bound_is_reached_without_a_common_token() -> None:
    log_p, log_q = log_softmax([60.0, -60.0, 0.0, 0.0]), log_softmax([-60.0, 60.0, 0.0, 0.0])
    value = float(Divergence("jensen_shannon", 0.3).value(log_p, log_q))
    assert value == pytest.approx(greatest_divergence(0.3)) == pytest.approx(0.6108643, abs=1e-7)


def test_the_middle_tends_to_both_ends() -> None:
    log_p, log_q = log_softmax([0.3, -1.0, 0.5, 0.2]), log_softmax([1.0, 0.4, -0.7, 0.0])
    near = 1e-6
    forward = float(Divergence("forward").value(log_p, log_q))
    reverse = float(Divergence("reverse").value(log_p, log_q))
    assert abs(forward - reverse) > 1e-2
    assert float(Divergence("jensen_shannon", near).value(log_p, log_q)) / near == pytest.approx(forward, rel=1e-4)
    assert float(Divergence("jensen_shannon", 1 - near).value(log_p, log_q)) / near == pytest.approx(reverse, rel=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_of_finite_differences_and_leaves_out_what_both_left_out(form: str) -> None:
    draw = torch.Generator().manual_seed(3)
    ours, theirs = (torch.randn(4, 6, generator=draw, dtype=torch.float64) for _ in range(2))
    ours[1, 2:4] = theirs[1, 2:4] = -torch.inf
    left_out = torch.isneginf(ours)
    divergence = Divergence(form, 0.3)

    def value(logits: torch.Tensor) -> torch.Tensor:
        return divergence.value(torch.log_softmax(logits, -1), torch.log_softmax(theirs, -1), left_out)

    found = divergence.logit_gradient(torch.log_softmax(ours, -1), torch.log_softmax(theirs, -1), left_out)
    step = 1e-6
    for token in range(6):
        nudge = torch.zeros(6, dtype=torch.float64)
        nudge[token] = step
        slope = (value(ours + nudge) - value(ours - nudge)) / (2 * step)
        torch.testing.assert_close(found[:, token], slope, atol=1e-9, rtol=1e-6)
    assert torch.equal(found[1, 2:4], torch.zeros(2, dtype=torch.float64))


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="Unknown divergence 'jensen'"):
        Divergence("jensen")
    for mixture in (0.0, 1.0, math.nan):
        with pytest.raises(ConfigurationError, match="between 0 and 1"):
            Divergence("jensen_shannon", mixture)


def test_the_objective_is_the_measured_divergence() -> None:
    numbers = torch.tensor([0.5, 0.25], requires_grad=True)
    batch = TokenBatch(*(torch.zeros(2) for _ in range(5)), rollout=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ConfigurationError, match="a teacher, and there is none"):
        Distillation(Divergence())(batch)
    batch = TokenBatch(
        *(torch.zeros(2) for _ in range(5)), rollout=torch.zeros(2, dtype=torch.int64), reference_divergence=numbers
    )
    loss, diagnostics = Distillation(Divergence())(batch)
    assert loss is numbers and diagnostics["distillation/divergence"].tolist() == [0.5, 0.25]
    assert not diagnostics["distillation/divergence"].requires_grad
