"""Objectives over whole rollouts: which pairs there are, how they are averaged, what is reported."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laurel.errors import ConfigurationError
from laurel.objectives import (
    Desirability,
    DirectPreference,
    IdentityPreference,
    OddsRatio,
    RolloutBatch,
    SimplePreference,
    dpo_loss,
    needs_constant,
    odds_ratio_loss,
    reads_rollouts,
)

PAIRWISE = [DirectPreference(0.1), IdentityPreference(0.1), OddsRatio(0.1), SimplePreference(2.0, 1.0)]


def t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def batch() -> RolloutBatch:
    """A pair, a ranking of three, and a prompt on which nobody could decide."""
    return RolloutBatch(
        log_probs=t(-2.0, -3.0, -1.0, -4.0, -6.0, -2.5, -2.5).requires_grad_(),
        lengths=t(2, 3, 1, 4, 4, 2, 2),
        advantages=t(0.5, -0.5, 1.0, 0.0, -1.0, 0.0, 0.0),
        prompts=torch.tensor([0, 0, 1, 1, 1, 2, 2]),
        prompt_count=3,
        reference_log_probs=t(-2.5, -2.5, -2.0, -4.0, -4.0, -2.0, -3.0),
    )


def test_pairs_lie_below_one_prompt_and_differ() -> None:
    winners, losers = batch().pairs
    assert list(zip(winners.tolist(), losers.tolist(), strict=True)) == [(0, 1), (2, 3), (2, 4), (3, 4)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=12))
def test_pairs_against_two_loops(rollouts: list[tuple[int, int]]) -> None:
    made = replace(
        batch(),
        advantages=t(*(float(score) for _, score in rollouts)),
        prompts=torch.tensor([prompt for prompt, _ in rollouts]),
        prompt_count=4,
    )
    expected = {(i, j) for i, (p, a) in enumerate(rollouts) for j, (q, b) in enumerate(rollouts) if p == q and a > b}
    assert set(zip(*(side.tolist() for side in made.pairs), strict=True)) == expected


def test_dpo_averages_the_pairs_of_each_prompt() -> None:
    ratios = t(0.5, -0.5, 1.0, 0.0, -2.0)
    loss, report = DirectPreference(0.1)(batch())
    by_hand = [dpo_loss(ratios[i], ratios[j], beta=0.1).item() for i, j in ((0, 1), (2, 3), (2, 4), (3, 4))]
    assert loss.tolist() == pytest.approx([by_hand[0], sum(by_hand[1:]) / 3, 0.0])
    assert report["preference/margin"].tolist()[:2] == pytest.approx([0.1, 0.1 * (1 + 3 + 2) / 3])
    assert report["preference/chosen"].tolist()[:2] == pytest.approx([0.05, 0.1 * (1 + 1 + 0) / 3])
    assert report["preference/accuracy"].tolist()[:2] == [1.0, 1.0]
    assert all(math.isnan(values[2]) for values in report.values())
    assert not any(values.requires_grad for values in report.values())


def test_length_normalised_dpo_divides_by_the_answers_own_length() -> None:
    loss, _ = DirectPreference(2.0, per_token=True)(batch())
    assert loss[0].item() == pytest.approx(dpo_loss(t(0.25), t(-0.5 / 3), beta=2.0).item())


def test_reference_free_objectives_read_means() -> None:
    loss, report = OddsRatio(0.5)(replace(batch(), reference_log_probs=None))
    assert loss[0].item() == pytest.approx(odds_ratio_loss(t(-1.0), t(-1.0), weight=0.5).item())
    assert report["preference/accuracy"][0] == 0.5  # equal: a coin
    simple, _ = SimplePreference(2.0, 1.0)(replace(batch(), reference_log_probs=None))
    assert simple[1].item() > 0


@pytest.mark.parametrize("objective", PAIRWISE)
def test_a_prompt_without_pairs_has_no_gradient(objective: DirectPreference) -> None:
    made = batch()
    loss, _ = objective(made)
    loss.sum().backward()
    gradient = made.log_probs.grad
    assert gradient is not None and bool(torch.isfinite(gradient).all())
    assert gradient[5:].tolist() == [0.0, 0.0] and bool((gradient[:3] != 0).all())


def test_kto_takes_its_constant_from_the_step() -> None:
    objective = Desirability(0.5)
    assert needs_constant(objective) and not any(needs_constant(other) for other in PAIRWISE)
    made = batch()
    mismatched = replace(made, log_probs=made.log_probs.detach() + 2.0)
    assert objective.constant(mismatched).item() == pytest.approx((mismatched.log_ratios).mean().item())
    with pytest.raises(ConfigurationError, match="divergence of the step"):
        objective(made)
    loss, report = objective(replace(made, constant=t(0.25)[0]))
    good = 1 / (1 + math.exp(0.5 * (0.5 - 0.25)))
    bad = 1 - 1 / (1 + math.exp(0.5 * (-0.5 - 0.25)))
    assert loss[0].item() == pytest.approx((good + bad) / 2)
    assert report["preference/chosen"][0].item() == pytest.approx(0.25)
    assert math.isnan(report["preference/chosen"][2]) and report["preference/divergence"].tolist() == [0.25] * 3


@pytest.mark.parametrize("objective", [DirectPreference(0.1), IdentityPreference(0.1)])
def test_a_missing_reference_is_said(objective: DirectPreference) -> None:
    with pytest.raises(ConfigurationError, match="there is none"):
        objective(replace(batch(), reference_log_probs=None))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DirectPreference(0.0), "beta must be above 0"),
        (lambda: DirectPreference(0.1, label_smoothing=0.5), r"\[0, 0.5\)"),
        (lambda: DirectPreference(0.1, robust=True), "is the plain one"),
        (lambda: IdentityPreference(-1.0), "tau must be above 0"),
        (lambda: Desirability(0.1, undesirable_weight=0.0), "undesirable_weight must be above 0"),
        (lambda: OddsRatio(float("nan")), "weight must be above 0"),
        (lambda: SimplePreference(1.0, -0.1), "margin must not be negative"),
    ],
)
def test_settings_that_mean_nothing(make: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()  # type: ignore[operator]


def test_the_two_kinds_of_objective_are_told_apart() -> None:
    from laurel.objectives import PolicyGradient

    assert all(reads_rollouts(objective) for objective in [*PAIRWISE, Desirability(0.1)])
    assert not reads_rollouts(PolicyGradient())
