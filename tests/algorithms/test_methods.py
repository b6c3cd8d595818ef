"""What the named methods are made of, and what they refuse."""

import dataclasses

import pytest

from laurel.algorithms import (
    KL,
    Demonstrated,
    Sampled,
    Step,
    cispo,
    clone,
    dapo,
    dr_grpo,
    grpo,
    gspo,
    ppo,
    reinforce,
    reinforce_plus_plus,
    remax,
    rloo,
    step_ppo,
    turn_ppo,
    vine_ppo,
)
from laurel.credit import (
    GeneralisedAdvantage,
    LeaveOneOut,
    OverlongPenalty,
    SiblingMean,
    Standardised,
    StepStandardised,
    TotalReward,
    TurnAdvantage,
    WholeReturn,
)
from laurel.errors import ConfigurationError
from laurel.objectives import (
    ClippedRatio,
    ConstantLength,
    EntropyBonus,
    KLPenalty,
    PolicyGradient,
    PromptMean,
    SamplerCorrection,
    SequenceMean,
    SequenceRatio,
    TokenMean,
    WeightedObjective,
    WeightedPolicyGradient,
)


def test_methods_differ_by_the_lines_in_which_their_papers_differ():
    assert (reinforce().credit, reinforce().objective) == (WholeReturn(), PolicyGradient())
    assert (rloo().credit, rloo().reduction) == (LeaveOneOut(), ConstantLength(1.0))
    assert (grpo().credit, grpo().objective, grpo().reduction) == (Standardised(), ClippedRatio(), SequenceMean())
    assert (dr_grpo(length=9).credit, dr_grpo(length=9).reduction) == (SiblingMean(), ConstantLength(9))
    assert (dapo().objective, dapo().reduction) == (ClippedRatio(0.2, 0.28), TokenMean())
    assert dapo().source == Sampled(discard_without_signal=True, maximum_draws=4)
    assert clone().source == Demonstrated()
    assert (gspo().credit, gspo().objective, gspo().reduction) == (Standardised(), SequenceRatio(), SequenceMean())
    assert (cispo().objective, cispo().reduction) == (WeightedPolicyGradient(5.0), TokenMean())
    assert reinforce_plus_plus().credit == StepStandardised()
    assert reinforce_plus_plus(group_baseline=True).credit == StepStandardised(within_group=True)


def test_settings_reach_their_part_and_the_equation():
    method = grpo(clip=0.1, clip_high=0.3, kl=KL(0.04, estimator="k2"), entropy=0.01, ddof=1, epochs=2, minibatches=3)
    assert method.objective == ClippedRatio(0.1, 0.3)
    assert method.regularisers == (KLPenalty(0.04, "k2"), EntropyBonus(0.01))
    assert method.credit == Standardised(ddof=1)
    assert method.step == Step(2, 3)
    for piece in ("0.9", "1.3", "0.04 k2(pi, ref)", "0.01 H(pi)", "ddof 1"):
        assert piece in method.equation


def test_a_reference_is_asked_for_only_where_it_is_read():
    assert not grpo().needs_reference
    assert grpo(kl=0.1).needs_reference


def test_dapo_settings():
    shaped = dapo(overlong_limit=100, overlong_cushion=20, discard_truncated=True)
    assert shaped.credit.returns == OverlongPenalty(100, 20, TotalReward(discard_truncated=True))
    assert "(100 - 20 - |o|) / 20" in shaped.equation
    assert dapo(denominator="prompt").reduction == PromptMean()
    assert dapo(dynamic_sampling=False).source == Sampled()
    with pytest.raises(ConfigurationError, match="denominator"):
        dapo(denominator="batch")


def test_using_a_batch_again_needs_a_ratio():
    with pytest.raises(ConfigurationError, match="ratio"):
        dataclasses.replace(rloo(), step=Step(epochs=2))
    assert not grpo(epochs=2).step.on_policy
    assert clone(epochs=5).step.epochs == 5
    with pytest.raises(ConfigurationError, match="at least 1"):
        grpo(epochs=0)


def test_methods_with_a_critic_say_so():
    chosen = ppo(decay=0.9, critic_decay=1.0, discount=0.99, clip_high=0.3, maximum_kl=0.1, minibatches=2)
    assert chosen.credit == GeneralisedAdvantage(decay=0.9, critic_decay=1.0, discount=0.99)
    assert chosen.objective == ClippedRatio(0.2, 0.3)
    assert chosen.step == Step(4, 2, 0.1)
    assert (turn_ppo(decay=0.5).credit, turn_ppo().reduction) == (TurnAdvantage(0.5, 1.0), TokenMean())
    assert turn_ppo(critic_decay=0.7, bootstrap=False).credit == TurnAdvantage(critic_decay=0.7, bootstrap=False)
    assert ppo(bootstrap=False).credit == GeneralisedAdvantage(bootstrap=False)
    for method in (ppo, turn_ppo):
        assert "V = V(last token) where a limit cuts" in method().equation
        assert "V = 0 where a limit cuts" in method(bootstrap=False).equation
    assert ppo().needs_critic and turn_ppo().needs_critic and not grpo().needs_critic
    for wrong in ({"decay": 1.1}, {"discount": -0.1}, {"critic_decay": 2.0}):
        with pytest.raises(ConfigurationError, match=r"must lie in \[0, 1\]"):
            ppo(**wrong)


def test_a_kl_bound_that_nobody_measures_is_refused():
    with pytest.raises(ConfigurationError, match="never be reached"):
        ppo(epochs=1, maximum_kl=0.1)
    with pytest.raises(ConfigurationError, match="above 0"):
        ppo(maximum_kl=0.0)


@pytest.mark.parametrize(
    "method", [grpo, dr_grpo, dapo, gspo, cispo, reinforce_plus_plus, ppo, turn_ppo, vine_ppo, step_ppo]
)
def test_every_method_that_uses_a_batch_again_can_stop_at_a_measured_kl(method):
    assert method(epochs=3, minibatches=2, maximum_kl=0.02).step == Step(3, 2, 0.02)
    assert method(epochs=3, minibatches=2).step == Step(3, 2)
    with pytest.raises(ConfigurationError, match="never be reached"):
        method(epochs=1, maximum_kl=0.02)


@pytest.mark.parametrize(
    "method",
    [reinforce, rloo, remax, grpo, dr_grpo, dapo, gspo, cispo, reinforce_plus_plus, ppo, turn_ppo, vine_ppo, step_ppo],
)
def test_every_method_that_samples_can_weigh_what_others_drew(method):
    plain, weighed = method(), method(sampler_correction=SamplerCorrection(3.0, "mask", "sequence"))
    assert weighed.objective == WeightedObjective(plain.objective, SamplerCorrection(3.0, "mask", "sequence"))
    assert weighed.equation.startswith(plain.equation)
    assert weighed.equation.removeprefix(plain.equation) == ", every token weighted by old(o_i)/mu(o_i) (0 above 3)"
    assert dataclasses.replace(weighed, objective=plain.objective, equation=plain.equation) == plain


@pytest.mark.parametrize("values", ["vtrace", "retrace"])
def test_tokens_are_weighed_once(values):
    with pytest.raises(ConfigurationError, match="once is right"):
        ppo(values=values, sampler_correction=SamplerCorrection())
