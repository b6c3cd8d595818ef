"""Losses of reward models: by hand, as probabilities that sum to 1, and where one is another's special case."""

from __future__ import annotations

import itertools
from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laurel.objectives import (
    binary_loss,
    bradley_terry_loss,
    davidson_loss,
    ordinal_loss,
    plackett_luce_loss,
    rising,
    step_label_loss,
)

NUMBERS = st.floats(-20, 20)


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def ranking_loss(rewards: torch.Tensor, scores: torch.Tensor) -> float:
    return float(plackett_luce_loss(rewards, scores, torch.zeros(len(rewards))).sum())


def test_bradley_terry_by_hand() -> None:
    losses = bradley_terry_loss(numbers(5, log(3), 0, 1000), numbers(5, 0, log(3), 0))
    torch.testing.assert_close(losses, numbers(log(2), log(4 / 3), log(4), 0), rtol=0, atol=1e-12)


def test_davidson_by_hand() -> None:
    first, second = numbers(0, 0, 2 * log(2)), numbers(0, 0, 0)
    tied = torch.tensor([True, False, False])
    losses = davidson_loss(first, second, tied, numbers(0)[0])
    # 2 : 1 : 1/2, of which the first is 4/7.
    torch.testing.assert_close(losses, numbers(log(3), log(3), log(7 / 4)), rtol=0, atol=1e-12)


@given(NUMBERS, NUMBERS, st.floats(-10, 10))
def test_davidson_is_a_distribution(first: float, second: float, weight: float) -> None:
    a, b, nu = numbers(first), numbers(second), numbers(weight)[0]
    no, yes = torch.tensor([False]), torch.tensor([True])
    losses = [davidson_loss(a, b, no, nu), davidson_loss(b, a, no, nu), davidson_loss(a, b, yes, nu)]
    assert float(sum(torch.exp(-loss) for loss in losses)) == pytest.approx(1, abs=1e-12)


@given(NUMBERS, NUMBERS)
def test_davidson_without_weight_on_ties_is_bradley_terry(first: float, second: float) -> None:
    a, b = numbers(first), numbers(second)
    without = davidson_loss(a, b, torch.tensor([False]), numbers(-200)[0])
    torch.testing.assert_close(without, bradley_terry_loss(a, b), rtol=0, atol=1e-12)


def test_plackett_luce_by_hand() -> None:
    losses = plackett_luce_loss(numbers(0, 0, 0), numbers(2, 3, 1), torch.zeros(3))
    torch.testing.assert_close(losses, numbers(log(2), log(3), 0), rtol=0, atol=1e-12)
    # exp r = 1, 2, 4, ranked 4 > 1 > 2: (4/7) (1/3).
    rewards = numbers(0, log(2), log(4))
    assert ranking_loss(rewards, numbers(2, 1, 3)) == pytest.approx(log(7 / 4) + log(3), abs=1e-12)


def test_plackett_luce_compares_within_a_prompt() -> None:
    losses = plackett_luce_loss(numbers(0, 0, 0, log(3)), numbers(1, 0, 0, 1), torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(losses, numbers(log(2), 0, 0, log(4 / 3)), rtol=0, atol=1e-12)


def test_equal_scores_are_not_compared() -> None:
    # Each of the two good ones is chosen over the bad one, and neither over the other.
    losses = plackett_luce_loss(numbers(0, log(3), 0), numbers(1, 1, 0), torch.zeros(3))
    torch.testing.assert_close(losses, numbers(log(2), log(4 / 3), 0), rtol=0, atol=1e-12)


@given(st.lists(NUMBERS, min_size=2, max_size=4))
def test_plackett_luce_is_a_distribution_over_rankings(rewards: list[float]) -> None:
    orders = itertools.permutations(range(len(rewards)))
    losses = [ranking_loss(numbers(*rewards), numbers(*map(float, order))) for order in orders]
    assert float(torch.exp(-numbers(*losses)).sum()) == pytest.approx(1, abs=1e-10)


@given(NUMBERS, NUMBERS)
def test_plackett_luce_of_two_is_bradley_terry(chosen: float, rejected: float) -> None:
    expected = float(bradley_terry_loss(numbers(chosen), numbers(rejected)))
    assert ranking_loss(numbers(chosen, rejected), numbers(1, 0)) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(st.lists(NUMBERS, min_size=2, max_size=4), NUMBERS)
def test_a_constant_changes_no_comparison(rewards: list[float], constant: float) -> None:
    scores = torch.arange(len(rewards), dtype=torch.float64)
    moved = ranking_loss(numbers(*rewards) + constant, scores)
    assert moved == pytest.approx(ranking_loss(numbers(*rewards), scores), abs=1e-10)


def test_ordinal_by_hand() -> None:
    losses = ordinal_loss(numbers(0, 0, 0, log(3)), torch.tensor([0, 1, 2, 2]), numbers(-log(3), log(3)))
    torch.testing.assert_close(losses, numbers(log(4), log(2), log(4), log(2)), rtol=0, atol=1e-12)


@given(NUMBERS, st.lists(st.floats(-3, 3), min_size=1, max_size=5))
def test_ordinal_is_a_distribution(reward: float, parameters: list[float]) -> None:
    levels = torch.arange(len(parameters) + 1)
    losses = ordinal_loss(numbers(reward).expand(len(levels)), levels, rising(numbers(*parameters)))
    assert float(torch.exp(-losses).sum()) == pytest.approx(1, abs=1e-10)


@given(NUMBERS, NUMBERS)
def test_two_levels_are_a_thumb(reward: float, cutpoint: float) -> None:
    rewards, levels = numbers(reward, reward), torch.tensor([1, 0])
    thumbs = binary_loss(rewards, levels == 1, numbers(cutpoint)[0])
    torch.testing.assert_close(ordinal_loss(rewards, levels, numbers(cutpoint)), thumbs, rtol=1e-12, atol=1e-12)


def test_binary_by_hand() -> None:
    losses = binary_loss(numbers(1, 1 + log(3), 1 + log(3)), torch.tensor([True, True, False]), numbers(1)[0])
    torch.testing.assert_close(losses, numbers(log(2), log(4 / 3), log(4)), rtol=0, atol=1e-12)


def test_rising_by_hand() -> None:
    torch.testing.assert_close(rising(numbers(-1, 0, log(2))), numbers(-1, 0, 2))


def test_gradients_are_those_of_finite_differences() -> None:
    rewards, parameters = numbers(0.3, -1.2, 2.0).requires_grad_(), numbers(-0.5, 0.1).requires_grad_()
    levels, scores, prompts = torch.tensor([0, 1, 2]), numbers(1, 3, 2), torch.zeros(3)
    assert torch.autograd.gradcheck(lambda r, p: ordinal_loss(r, levels, rising(p)), (rewards, parameters))
    assert torch.autograd.gradcheck(lambda r: plackett_luce_loss(r, scores, prompts), (rewards,))
    tied = torch.tensor([True, False, False])
    assert torch.autograd.gradcheck(lambda r, p: davidson_loss(r, r.flip(0), tied, p[0]), (rewards, parameters))


def test_gradients_stay_finite_in_the_tails() -> None:
    rewards = numbers(800, -800, 800, -800).requires_grad_()
    losses = ordinal_loss(rewards, torch.tensor([0, 0, 1, 1]), numbers(-1, 1))
    (gradient,) = torch.autograd.grad(losses.sum(), rewards)
    torch.testing.assert_close(gradient, numbers(1, 0, 1, -1), rtol=0, atol=1e-12)


def test_step_labels_by_hand() -> None:
    losses = step_label_loss(numbers(log(3), log(3), log(3), 0), numbers(1, 0, 0.5, 0.3))
    torch.testing.assert_close(
        losses, numbers(log(4 / 3), log(4), (log(4 / 3) + log(4)) / 2, log(2)), rtol=0, atol=1e-12
    )


@given(NUMBERS, st.floats(0, 1))
def test_step_labels_are_a_cross_entropy_that_is_least_at_the_label(log_odds: float, label: float) -> None:
    torch_says = torch.nn.functional.binary_cross_entropy_with_logits(numbers(log_odds), numbers(label))
    torch.testing.assert_close(step_label_loss(numbers(log_odds), numbers(label))[0], torch_says)
    z = numbers(log_odds).requires_grad_()
    (gradient,) = torch.autograd.grad(step_label_loss(z, numbers(label)).sum(), z)
    torch.testing.assert_close(gradient, torch.sigmoid(numbers(log_odds)) - label, rtol=0, atol=1e-9)
