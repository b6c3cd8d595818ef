"""Objectives with a ratio on samples of an older policy: exact for one token without bounds, else biased as stated."""

import numpy as np
import pytest
import torch

from laurel.credit import LeaveOneOut, WholeReturn
from laurel.objectives import ClippedRatio, ConstantLength, PolicyGradient, SequenceRatio, WeightedPolicyGradient
from laurel.theory import (
    World,
    example_logits,
    example_world,
    gradient_distribution,
    groups,
    path_log_probs,
    return_gradient,
    single_turn,
)

ONE_TOKEN = single_turn(vocabulary=4, horizon=1, score=lambda answer: [0.0, 1.0, 0.3, -0.5][answer[0]])
UNBOUNDED = [ClippedRatio(1.0, np.inf), SequenceRatio(1.0, np.inf), WeightedPolicyGradient(np.inf)]
BOUNDED = [ClippedRatio(0.1, 0.1), SequenceRatio(0.1, 0.1), WeightedPolicyGradient(0.9)]


def behaviour(world: World) -> torch.Tensor:
    return example_logits(world).flip(0) * 0.4 + 0.3 * example_logits(world).flip(1)


def expected(world: World, objective, credit=None, samples: int = 2) -> np.ndarray:
    return gradient_distribution(
        groups(world, behaviour(world), samples),
        example_logits(world),
        credit=credit or LeaveOneOut(),
        losses=(objective,),
        reduction=ConstantLength(),
        behaviour=behaviour(world),
    ).mean


@pytest.mark.parametrize("objective", UNBOUNDED, ids=str)
def test_one_token_without_bounds_is_exact_off_policy(objective):
    exact = return_gradient(ONE_TOKEN, example_logits(ONE_TOKEN))
    np.testing.assert_allclose(expected(ONE_TOKEN, objective), exact, atol=1e-10)
    assert np.abs(expected(ONE_TOKEN, PolicyGradient()) - exact).max() > 1e-2


@pytest.mark.parametrize("objective", BOUNDED, ids=str)
def test_a_bound_is_paid_for_with_bias(objective):
    exact = return_gradient(ONE_TOKEN, example_logits(ONE_TOKEN))
    assert np.abs(expected(ONE_TOKEN, objective) - exact).max() > 1e-3


def written_out(world: World, weight) -> np.ndarray:
    """sum over paths of mu(path) R(path) sum_t weight_t(path) grad log pi(a_t|s_t)."""
    table = example_logits(world).clone().requires_grad_()
    now = torch.log_softmax(table, -1)
    before = torch.log_softmax(behaviour(world), -1)
    total = torch.zeros((), dtype=torch.float64)
    for chance, path in zip(path_log_probs(world, behaviour(world)).exp(), world.paths, strict=True):
        states, tokens = list(path.states), list(path.tokens)
        ratios = (now[states, tokens] - before[states, tokens]).detach().exp()
        weights = torch.tensor([weight(r, ratios, sum(path.rewards)) for r in ratios.tolist()], dtype=torch.float64)
        total = total + chance * sum(path.rewards) * (weights * now[states, tokens]).sum()
    (gradient,) = torch.autograd.grad(total, table)
    return gradient.numpy()


def clip_weight(ratio: float, earned: float, low: float, high: float) -> float:
    return 0.0 if (earned > 0 and ratio > 1 + high) or (earned < 0 and ratio < 1 - low) else ratio


@pytest.mark.parametrize(
    ("objective", "weight"),
    [
        (ClippedRatio(0.2, 0.3), lambda ratio, _, earned: clip_weight(ratio, earned, 0.2, 0.3)),
        (WeightedPolicyGradient(1.2), lambda ratio, *_: min(ratio, 1.2)),
        (
            SequenceRatio(0.1, 0.2),
            lambda _, ratios, earned: clip_weight(float(ratios.log().mean().exp()), earned, 0.1, 0.2),
        ),
    ],
    ids=["clipped", "weighted", "sequence"],
)
def test_biased_as_written_out(objective, weight):
    # Returns with both signs, so that both branches of the clip are met.
    worth = {(2,): -0.4, (0, 0): 0.0, (0, 1): 1.0, (0, 2): -1.0, (1, 0): 0.5, (1, 1): -0.7, (1, 2): 1.0}
    world = single_turn(vocabulary=3, horizon=2, score=worth.__getitem__, end=2)
    given = expected(world, objective, WholeReturn(), samples=1)
    np.testing.assert_allclose(given, written_out(world, weight), atol=1e-10)


def test_token_ratios_leave_the_visits_to_the_sampler():
    # Exact values per state, but the states are visited as the sampler visits them: the stated bias of PPO's ratio.
    world = example_world()
    exact = return_gradient(world, example_logits(world))
    given = expected(world, ClippedRatio(1.0, np.inf), WholeReturn(), samples=1)
    assert np.abs(given - exact).max() > 1e-3
