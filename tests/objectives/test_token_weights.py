"""Weights that scale a gradient and have none: bounds by hand, and sampler corrections held against enumeration."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from laurel.credit import LeaveOneOut, WholeReturn
from laurel.errors import ConfigurationError, LearnerError
from laurel.objectives import (
    ClippedRatio,
    ConstantLength,
    PolicyGradient,
    SamplerCorrection,
    TokenBatch,
    WeightedPolicyGradient,
    capped_weight,
)
from laurel.theory import example_logits, example_world, gradient_distribution, groups, return_gradient


def batch(ratios: list[float], sampler_ratios: list[float] | None = None) -> TokenBatch:
    """Advantages 1, -1, 1 ...; `ratios` now / old, `sampler_ratios` old / sampler."""
    old = torch.full((len(ratios),), -2.0, dtype=torch.float64)
    now = (old + torch.tensor(ratios, dtype=torch.float64).log()).requires_grad_()
    sampler = old - torch.tensor(sampler_ratios or [1.0] * len(ratios), dtype=torch.float64).log()
    signs = torch.tensor([(-1.0) ** i for i in range(len(ratios))], dtype=torch.float64)
    return TokenBatch(now, old, sampler, old, signs, torch.arange(len(ratios)) // 2)


def slope(objective, given: TokenBatch) -> list[float]:
    (gradient,) = torch.autograd.grad(objective(given)[0].sum(), given.log_probs)
    return gradient.tolist()


def test_capped_weight_hand_computed():
    log_ratio = torch.log(torch.tensor([0.1, 1.0, 2.0, 3.0], dtype=torch.float64))
    assert capped_weight(log_ratio, 2.0).tolist() == pytest.approx([0.1, 1, 2, 2])
    assert capped_weight(log_ratio, 2.0 + 1e-9, mode="mask").tolist() == pytest.approx([0.1, 1, 2, 0])


def test_no_token_loses_its_gradient():
    given = batch([0.1, 0.1, 9.0, 9.0])
    assert slope(WeightedPolicyGradient(5.0), given) == pytest.approx([-0.1, 0.1, -5.0, 5.0])
    seen = WeightedPolicyGradient(5.0)(given)[1]
    assert seen["ratio/capped"].tolist() == [0, 0, 1, 1]
    distances = [ratio - 1 - math.log(ratio) for ratio in (0.1, 0.1, 9.0, 9.0)]  # of KL(old, now)
    assert seen["ratio/kl_old"].tolist() == pytest.approx(distances)


def test_below_the_bound_its_gradient_is_that_of_the_plain_ratio():
    given = batch([0.5, 1.5])
    loss = -(given.log_probs - given.old_log_probs).exp() * given.advantages
    (plain,) = torch.autograd.grad(loss.sum(), given.log_probs)
    assert slope(WeightedPolicyGradient(5.0), given) == pytest.approx(plain.tolist())


def test_sampler_correction_hand_computed():
    given = batch([1.0] * 4, [0.5, 3.0, 1.0, 3.0])
    plain = PolicyGradient()
    assert slope(SamplerCorrection(2.0).around(plain), given) == pytest.approx([-0.5, 2.0, -1.0, 2.0])
    assert slope(SamplerCorrection(2.0, "mask").around(plain), given) == pytest.approx(
        [-0.5, 0.0, -1.0, 0.0], abs=1e-12
    )
    # Rollouts of two tokens: products 1.5 and 3.
    by_sequence = SamplerCorrection(2.0, level="sequence").around(plain)
    assert slope(by_sequence, given) == pytest.approx([-1.5, 1.5, -2.0, 2.0])
    seen = by_sequence(given)[1]
    assert seen["sampler/weight"].tolist() == pytest.approx([1.5, 1.5, 2, 2])
    assert seen["sampler/bounded"].tolist() == [0, 0, 1, 1]


def test_where_sampler_and_learner_agree_nothing_changes():
    given = batch([1.5, 0.5, 1.0, 1.1])
    assert slope(SamplerCorrection().around(ClippedRatio()), given) == pytest.approx(slope(ClippedRatio(), given))


def test_decoupled_clipping_is_centred_on_the_policy_at_the_start_of_the_update():
    # now / old = 1.5 is clipped whatever the sampler was; now / old = 1 never is, however far the sampler.
    given = batch([1.5, 1.0, 1.0, 1.0], [1.0, 1.0, 8.0, 1.0])
    assert slope(SamplerCorrection(math.inf).around(ClippedRatio()), given) == pytest.approx([0, 1, -8, 1], abs=1e-12)


@pytest.mark.parametrize("credit", [WholeReturn(), LeaveOneOut()], ids=str)
def test_sequence_weights_are_exact_and_token_weights_are_not(credit):
    world = example_world()
    logits, behaviour = example_logits(world), 0.3 * example_logits(world).flip(0)
    exact = return_gradient(world, logits)

    def bias(objective) -> float:
        estimated = gradient_distribution(
            groups(world, behaviour, 2),
            logits,
            credit=credit,
            losses=(objective,),
            reduction=ConstantLength(),
            behaviour=behaviour,
            old=logits,
        )
        return float(np.abs(estimated.mean - exact).max())

    uncorrected = bias(PolicyGradient())
    by_token = bias(SamplerCorrection(math.inf).around(PolicyGradient()))
    assert uncorrected > 0.02
    assert by_token > 1e-3
    assert bias(SamplerCorrection(math.inf, level="sequence").around(PolicyGradient())) < 1e-12
    assert (
        bias(SamplerCorrection(0.5, level="sequence").around(PolicyGradient())) > 1e-3
    )  # a bound is paid for with bias


def test_a_demonstration_has_no_sampler():
    given = batch([1.0, 1.0])
    nothing = torch.full_like(given.sampler_log_probs, float("nan"))
    with pytest.raises(LearnerError, match="sampler"):
        SamplerCorrection().around(PolicyGradient())(dataclasses.replace(given, sampler_log_probs=nothing))


def test_a_correction_passes_on_what_its_objective_can_do():
    assert SamplerCorrection().around(ClippedRatio()).corrects_reuse
    assert not SamplerCorrection().around(PolicyGradient()).corrects_reuse
    assert not SamplerCorrection().around(PolicyGradient()).needs_reference


@pytest.mark.parametrize("settings", [{"maximum": 0.0}, {"mode": "clip"}, {"level": "turn"}])
def test_nonsense_is_refused(settings):
    with pytest.raises(ConfigurationError):
        SamplerCorrection(**settings)
    with pytest.raises(ConfigurationError):
        WeightedPolicyGradient(-1.0)
