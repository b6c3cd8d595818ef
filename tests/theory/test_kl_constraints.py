"""KL to the reference, by listing every batch: value and gradient of each estimator, in the loss and in the reward.

float64 throughout; `beta` is far from small, and the reference far from the policy, so that a missing term shows.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from laurel.credit import (
    Credit,
    EveryToken,
    GeneralisedAdvantage,
    LeaveOneOut,
    RewardToGo,
    SiblingMean,
    WholeReturn,
)
from laurel.objectives import ConstantLength, KLPenalty, KLReward, PolicyGradient, k1, k2, k3
from laurel.theory import (
    GradientDistribution,
    World,
    example_dialogue,
    example_logits,
    example_world,
    expected_return,
    gradient_distribution,
    groups,
    kl_divergence,
    optimal_path_probs,
    path_log_probs,
    path_returns,
    penalised,
    regularised_gradient,
    return_gradient,
    single_turn,
    soft_bellman_policy,
    token_divergences,
    token_values,
)

BETA = 0.7
TOLERANCE = 1e-10
WORLDS = {"single turn": example_world(), "dialogue": example_dialogue()}
ONE_TOKEN = single_turn(vocabulary=4, horizon=1, score=lambda answer: [0.0, 1.0, 0.3, -0.5][answer[0]])


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]


def reference(world: World) -> torch.Tensor:
    logits = example_logits(world)
    return torch.cos(1.7 * torch.arange(logits.numel(), dtype=torch.float64)).reshape(logits.shape)


def at_given_states(world: World, forward: bool) -> tuple[float, np.ndarray]:
    """sum over states of (expected visits) * KL of the next-token distributions, and its gradient at fixed visits."""
    table = example_logits(world).requires_grad_()
    now, other = torch.log_softmax(table, -1), torch.log_softmax(reference(world), -1)
    by_state = (other.exp() * (other - now) if forward else now.exp() * (now - other)).sum(-1)
    chances = path_log_probs(world, example_logits(world)).exp()
    visits = torch.zeros(len(by_state), dtype=torch.float64)
    for chance, path in zip(chances, world.paths, strict=True):
        for state in path.states:
            visits[state] += chance
    total = (visits * by_state).sum()
    (gradient,) = torch.autograd.grad(total, table)
    return float(total.detach()), gradient.numpy()


def in_loss(world: World, estimator: str, credit=None, **others) -> np.ndarray:
    """Expected ascent direction of -BETA * penalty alone (advantages of 0 by default)."""
    logits = example_logits(world)
    return gradient_distribution(
        groups(world, logits, 1),
        logits,
        credit=credit or EveryToken(0.0),
        losses=(KLPenalty(BETA, estimator),),
        reduction=ConstantLength(),
        reference=reference(world),
        **others,
    ).mean


@pytest.mark.parametrize(("estimator", "unbiased"), [(k1, True), (k2, False), (k3, True)])
def test_value_of_each_estimator(world, estimator, unbiased):
    now, other = (torch.log_softmax(table, -1) for table in (example_logits(world), reference(world)))
    found = 0.0
    for chance, path in zip(path_log_probs(world, example_logits(world)).exp().tolist(), world.paths, strict=True):
        states, tokens = list(path.states), list(path.tokens)
        found += chance * float(estimator(now[states, tokens], other[states, tokens]).sum())
    exact = float(kl_divergence(world, example_logits(world), reference(world)))
    assert at_given_states(world, forward=False)[0] == pytest.approx(exact, abs=TOLERANCE)  # the chain rule
    if unbiased:
        assert found == pytest.approx(exact, abs=TOLERANCE)
    else:
        assert abs(found - exact) > 1e-2


@pytest.mark.parametrize(("estimator", "forward"), [("k2", False), ("exact", False), ("k3", True)])
def test_gradient_in_the_loss_is_that_of_the_divergence_at_given_states(world, estimator, forward):
    expected = -BETA * at_given_states(world, forward)[1]
    np.testing.assert_allclose(in_loss(world, estimator), expected, atol=TOLERANCE)


def test_in_the_loss_the_way_to_the_states_is_missing(world):
    """Over several tokens it is not the gradient of the KL of whole rollouts; for one token it is."""
    for judged, same in ((world, False), (ONE_TOKEN, True)):
        nothing = return_gradient(judged, example_logits(judged))
        whole = regularised_gradient(judged, example_logits(judged), reference(judged), BETA) - nothing
        distance = np.abs(in_loss(judged, "exact") - whole).max()
        assert (distance < TOLERANCE) if same else (distance > 1e-2)


def test_the_exact_sum_has_no_noise_from_the_drawn_token():
    logits = example_logits(ONE_TOKEN)

    def noise(estimator: str) -> float:
        return gradient_distribution(
            groups(ONE_TOKEN, logits, 1),
            logits,
            credit=EveryToken(0.0),
            losses=(KLPenalty(BETA, estimator),),
            reduction=ConstantLength(),
            reference=reference(ONE_TOKEN),
        ).variance

    assert noise("exact") < TOLERANCE < 1e-3 < noise("k2")


def in_reward(world: World, credit, **settings) -> np.ndarray:
    """Expected ascent direction of the return with the penalty taken off before credit is given."""
    return rewarded(world, credit, **settings).mean


def rewarded(
    world: World, credit, *, logits=None, estimator: str = "k1", samples: int = 2, losses=()
) -> GradientDistribution:
    logits = example_logits(world) if logits is None else logits
    return gradient_distribution(
        groups(world, logits, samples),
        logits,
        credit=penalised(credit, KLReward(BETA, estimator), world, logits, reference(world)),
        losses=(PolicyGradient(), *losses),
        reduction=ConstantLength(),
        reference=reference(world),
    )


@pytest.mark.parametrize("credit", [WholeReturn(), WholeReturn(0.4), LeaveOneOut(), RewardToGo()], ids=str)
def test_k1_in_the_reward_is_the_exact_gradient_of_the_regularised_objective(world, credit):
    exact = regularised_gradient(world, example_logits(world), reference(world), BETA)
    np.testing.assert_allclose(in_reward(world, credit), exact, atol=TOLERANCE)
    assert np.abs(exact - return_gradient(world, example_logits(world))).max() > 1e-2


def test_the_sibling_mean_scales_the_penalty_as_it_scales_the_return(world):
    exact = regularised_gradient(world, example_logits(world), reference(world), BETA)
    np.testing.assert_allclose(in_reward(world, SiblingMean()), exact / 2, atol=TOLERANCE)


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_a_critic_sees_the_penalty_of_each_token(world, decay):
    """GAE with decay 1 is exact whatever the critic says; with the true values of the penalised problem, at any."""
    logits, other = example_logits(world), reference(world)
    values = penalised_values(world, logits, other)
    rule = GeneralisedAdvantage(decay=decay)

    def with_values(trees) -> list[Credit]:
        known = {history: 0.3 * len(history) for history in values} if decay == 1.0 else values
        return rule(trees, [np.nan_to_num(token_values(tree, known)) for tree in trees])

    exact = regularised_gradient(world, logits, other, BETA)
    np.testing.assert_allclose(in_reward(world, with_values, samples=1), exact, atol=TOLERANCE)


def penalised_values(world: World, logits: torch.Tensor, other: torch.Tensor) -> dict[tuple[int, ...], float]:
    """V(history) = E[what is still to come - BETA * the log-ratios still to come]."""
    now, then = (torch.log_softmax(table, -1).numpy() for table in (logits, other))
    mass: dict[tuple[int, ...], float] = {}
    worth: dict[tuple[int, ...], float] = {}
    for chance, path in zip(path_log_probs(world, logits).exp().tolist(), world.paths, strict=True):
        states, tokens = list(path.states), list(path.tokens)
        earned = np.array(path.rewards) - BETA * (now[states, tokens] - then[states, tokens])
        for place, history in enumerate(path.histories):
            mass[history] = mass.get(history, 0.0) + chance
            worth[history] = worth.get(history, 0.0) + chance * float(earned[place:].sum())
    return {history: worth[history] / mass[history] for history in mass}


def test_the_exact_sum_in_the_reward_needs_its_half_in_the_loss(world):
    exact = regularised_gradient(world, example_logits(world), reference(world), BETA)
    halves = in_reward(world, LeaveOneOut(), estimator="exact", losses=(KLPenalty(BETA, "exact"),))
    np.testing.assert_allclose(halves, exact, atol=TOLERANCE)
    assert np.abs(in_reward(world, LeaveOneOut(), estimator="exact") - exact).max() > 1e-2


def test_the_exact_sum_in_the_reward_has_less_than_half_of_the_noise_of_k1(world):
    exact = rewarded(world, LeaveOneOut(), estimator="exact", losses=(KLPenalty(BETA, "exact"),)).variance
    assert exact < rewarded(world, LeaveOneOut()).variance / 2


def test_the_optimum_is_where_k1_in_the_reward_stands_still():
    """ref exp(R / beta) / Z, whose worth is beta log Z; a penalty in the loss would walk away from it."""
    world = example_world()
    best = soft_bellman_policy(world, reference(world), BETA)
    logits = torch.zeros_like(example_logits(world))
    for history, probabilities in best.items():
        logits[world.states[world.state(history)]] = torch.from_numpy(np.log(probabilities))
    tilted = path_log_probs(world, reference(world)) + path_returns(world) / BETA
    worth = expected_return(world, logits) - BETA * kl_divergence(world, logits, reference(world))
    assert float(worth) == pytest.approx(BETA * float(torch.logsumexp(tilted, 0)), abs=TOLERANCE)
    np.testing.assert_allclose(
        path_log_probs(world, logits).exp(), optimal_path_probs(world, reference(world), BETA), atol=TOLERANCE
    )
    np.testing.assert_allclose(in_reward(world, LeaveOneOut(), logits=logits), 0, atol=TOLERANCE)
    loss = gradient_distribution(
        groups(world, logits, 2),
        logits,
        credit=LeaveOneOut(),
        losses=(PolicyGradient(), KLPenalty(BETA, "exact")),
        reduction=ConstantLength(),
        reference=reference(world),
    ).mean
    assert np.abs(loss).max() > 1e-3


@pytest.mark.parametrize(
    ("estimator", "least", "most"),
    [(None, 0.0, 1e-6), ("exact", 0.005, 0.015), ("k2", 0.005, 0.015), ("k3", 0.03, 0.06)],
)
def test_where_each_penalty_leads(estimator, least, most):
    """Ascent along the expected gradient: the distance in total variation from the optimum that it ends at."""
    world = example_world()
    logits, best = reference(world), torch.from_numpy(optimal_path_probs(world, reference(world), BETA))
    for _ in range(200):
        credit, losses = WholeReturn(), [PolicyGradient()]
        if estimator is None:
            credit = penalised(credit, KLReward(BETA), world, logits, reference(world))
        else:
            losses.append(KLPenalty(BETA, estimator))
        step = gradient_distribution(
            groups(world, logits, 1),
            logits,
            credit=credit,
            losses=losses,
            reduction=ConstantLength(),
            reference=reference(world),
        ).mean
        logits = logits + 3 * torch.from_numpy(step)
    distance = float((path_log_probs(world, logits).exp() - best).abs().sum()) / 2
    assert least <= distance < most


@pytest.mark.parametrize("estimator", [k2, k3])
def test_k2_and_k3_in_the_reward_vanish_near_the_reference(estimator):
    """E[k grad log pi] at one state, at a distance and at half of it: second order, where the KL's gradient is first.

    For k3 it is grad KL(pi, ref) - grad KL(ref, pi), exactly. This is why `KLReward` refuses both.
    """
    base = torch.log_softmax(reference(ONE_TOKEN)[0], -1)

    def gradients(distance: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        table = (base + distance * example_logits(ONE_TOKEN)[0]).requires_grad_()
        now = torch.log_softmax(table, -1)
        reward = estimator(now, base).detach()
        (found,) = torch.autograd.grad((now.detach().exp() * reward * now).sum(), table, retain_graph=True)
        (reverse,) = torch.autograd.grad((now.exp() * (now - base)).sum(), table, retain_graph=True)
        (forward,) = torch.autograd.grad((base.exp() * (base - now)).sum(), table)
        return found, reverse, forward

    near, half = gradients(0.02), gradients(0.01)
    assert float(near[0].norm() / half[0].norm()) == pytest.approx(4, rel=0.1)
    assert float(near[1].norm() / half[1].norm()) == pytest.approx(2, rel=0.1)
    if estimator is k3:
        torch.testing.assert_close(near[0], near[1] - near[2], atol=1e-14, rtol=0)


def test_token_divergences_sum_to_the_log_ratio_of_the_rollout():
    world = example_dialogue()
    logits, other = example_logits(world), reference(world)
    ratios = (path_log_probs(world, logits) - path_log_probs(world, other)).tolist()
    for experience in groups(world, logits, 1):
        (tree,) = experience.trees
        found = np.nansum(token_divergences(world, tree, logits, other))
        assert min(abs(found - ratio) for ratio in ratios) < 1e-12
        assert np.isnan(token_divergences(world, tree, logits, other)[~tree.flat.policy]).all()
