"""Rewards recovered from demonstrations, where every answer is listed: what each form is best at, exactly.

Answers are drawn as often as their probability says: an answer of probability 3/8 stands three times among eight. So
the means that a form takes over samples are expectations, and its own code is what is proved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from laurel.errors import ConfigurationError
from laurel.objectives import Contrast, Discriminator, MaximumEntropy, ShapedDiscriminator
from laurel.theory import best_discriminator, maximum_entropy_weights, occupancy, single_turn

EXPERT = (4, 2, 1, 1)
POLICY = (1, 3, 2, 2)
"""How often each of four answers is given in eight."""

WORLD = single_turn(vocabulary=2, horizon=2, score=lambda answer: 0.0)
"""Two binary tokens: the four answers are 00, 01, 10, 11; the states (), (0,) and (1,)."""


def chance(counts: tuple[int, ...]) -> np.ndarray:
    return np.array(counts) / sum(counts)


def answers(expert: tuple[int, ...], policy: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Which answer each one is, [R], and whether the expert gave it."""
    both = [np.repeat(np.arange(len(counts)), counts) for counts in (expert, policy)]
    return torch.from_numpy(np.concatenate(both)), torch.arange(sum(expert) + sum(policy)) < sum(expert)


def by_answer(rewards: torch.Tensor, expert: tuple[int, ...] = EXPERT, policy: tuple[int, ...] = POLICY) -> Contrast:
    which, whose = answers(expert, policy)
    return Contrast(rewards[which], whose, torch.zeros_like(which), 1)


def by_token(reward: torch.Tensor, potential: torch.Tensor, policy: tuple[int, ...]) -> Contrast:
    """The answers token by token, with a table of rewards [4] and of potentials [3 states]."""
    which, whose = answers(EXPERT, policy)
    paths = [WORLD.paths[number] for number in which.tolist()]
    states = torch.tensor([state for path in paths for state in path.states])
    first = torch.tensor([True, False] * len(paths))
    drawn = occupancy(WORLD, chance(policy))
    said = np.log(drawn / drawn.sum(1, keepdims=True))
    return Contrast(
        rewards=reward[which],
        expert=whose,
        prompts=torch.zeros_like(which),
        prompt_count=1,
        log_probs=torch.tensor([said[s, t] for p in paths for s, t in zip(p.states, p.tokens, strict=True)]),
        owner=torch.repeat_interleave(torch.arange(len(paths)), 2),
        before=potential[states],
        after=torch.where(first, potential[states].roll(-1), torch.nan),  # nobody may read what follows an end
        last=~first,
    )


def minimum(loss: Callable[..., torch.Tensor], *sizes: int) -> list[torch.Tensor]:
    tables = [torch.zeros(size, dtype=torch.float64, requires_grad=True) for size in sizes]
    search = torch.optim.LBFGS(
        tables, max_iter=3000, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        search.zero_grad()
        value = loss(*tables)
        value.backward()
        return value

    search.step(closure)
    return [table.detach() for table in tables]


def test_the_best_discriminator_is_the_log_density_ratio() -> None:
    (rewards,) = minimum(lambda r: Discriminator().losses(by_answer(r)).sum(), 4)
    np.testing.assert_allclose(rewards, np.log(chance(EXPERT) / chance(POLICY)), atol=1e-10)
    np.testing.assert_allclose(rewards, best_discriminator(chance(EXPERT), chance(POLICY)), atol=1e-9)


def test_its_pay_makes_the_policys_game_a_divergence_from_the_expert() -> None:
    """log-odds: -KL(pi, E). The paper's pay and loss: 2 log 2 - 2 JS(pi, E), at the best discriminator."""
    ratio = torch.from_numpy(np.log(chance(EXPERT) / chance(POLICY)))
    batch, ours, theirs = by_answer(ratio), chance(POLICY), chance(EXPERT)
    paid = Discriminator().pays(batch)[~batch.expert].mean()
    assert float(paid) == pytest.approx(float(ours @ np.log(theirs / ours)), abs=1e-12)
    middle = (ours + theirs) / 2
    shannon = (ours @ np.log(ours / middle) + theirs @ np.log(theirs / middle)) / 2
    assert float(Discriminator().losses(batch)[0]) == pytest.approx(2 * np.log(2) - 2 * shannon, abs=1e-12)
    logistic = Discriminator("logistic").pays(batch)
    np.testing.assert_allclose(logistic, -np.log(1 - 1 / (1 + np.exp(-batch.rewards.numpy()))), atol=1e-12)


def test_where_the_policy_is_the_expert_the_shaped_reward_is_the_true_one_up_to_a_constant() -> None:
    """E(y) = exp(R(y)) / Z with R = log of how often: g = R + c, h = soft value + c, f = log E(a|s)."""
    form = ShapedDiscriminator()
    reward, potential = minimum(lambda g, h: form.losses(by_token(g, h, EXPERT)).sum(), 4, 3)
    true = np.log(np.array(EXPERT))
    values = np.log([8, 6, 2])  # logsumexp of R over what can follow (), (0,) and (1,)
    shift = float(reward[0] - true[0])
    np.testing.assert_allclose(reward, true + shift, atol=1e-9)
    np.testing.assert_allclose(potential, values + shift, atol=1e-9)
    shaped = form.shaped(by_token(reward, potential, EXPERT))
    np.testing.assert_allclose(shaped, by_token(reward, potential, EXPERT).log_probs, atol=1e-9)
    np.testing.assert_allclose(torch.softmax(reward, 0), chance(EXPERT), atol=1e-10)  # reused, it gives the expert
    rest = form.losses(by_token(reward, potential, EXPERT))
    assert float(rest[0].detach()) == pytest.approx(4 * np.log(2), abs=1e-12)


def test_against_another_policy_the_shaped_reward_knows_the_states_too() -> None:
    """f(s, a) = log rho_E(s, a) - log rho_pi(s): it is log E(a|s) only where both visit s as often."""
    form = ShapedDiscriminator()
    reward, potential = minimum(lambda g, h: form.losses(by_token(g, h, POLICY)).sum(), 4, 3)
    batch = by_token(reward, potential, POLICY)
    expert, policy = occupancy(WORLD, chance(EXPERT)), occupancy(WORLD, chance(POLICY))
    wanted = np.log(expert / policy.sum(1, keepdims=True))
    paths = [WORLD.paths[number] for number in answers(EXPERT, POLICY)[0].tolist()]
    by_hand = [wanted[s, t] for path in paths for s, t in zip(path.states, path.tokens, strict=True)]
    np.testing.assert_allclose(form.shaped(batch), by_hand, atol=1e-9)


def test_its_pay_telescopes_to_reward_and_entropy() -> None:
    reward, potential = torch.randn(4, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    batch = by_token(reward, potential, POLICY)
    which, _ = answers(EXPERT, POLICY)
    assert batch.log_probs is not None
    by_hand = reward[which] - potential[0] - batch.log_probs.reshape(-1, 2).sum(1)
    np.testing.assert_allclose(ShapedDiscriminator().pays(batch), by_hand, atol=1e-12)
    halved = ShapedDiscriminator(discount=0.5).pays(batch)
    said = batch.log_probs.reshape(-1, 2)
    np.testing.assert_allclose(halved, reward[which] / 2 - potential[0] - said[:, 0] - said[:, 1] / 2, atol=1e-12)


def test_at_rest_every_answer_is_paid_the_same() -> None:
    """The policy is the optimum of the reward that it is paid, its entropy included: nothing is left to gain."""
    true, values = torch.log(torch.tensor(EXPERT, dtype=torch.float64)), torch.log(torch.tensor([8.0, 6, 2]).double())
    batch = by_token(true, values, EXPERT)
    paid = ShapedDiscriminator().pays(batch)
    np.testing.assert_allclose(paid, np.zeros(len(paid)), atol=1e-12)
    paid = MaximumEntropy(temperature=0.5).pays(replace(batch, rewards=batch.rewards / 2))
    np.testing.assert_allclose(paid, np.full(len(paid), np.log(8) / 2), atol=1e-12)


FEATURES = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float64)
WEIGHTS = np.log([2.0, 3.0])
"""exp(w . features) is 1, 3, 2, 6: the policy exp(r) / Z gives these answers so often in twelve."""


def log_likelihood(weights: np.ndarray) -> float:
    scores = FEATURES @ weights
    return float(chance(EXPERT) @ scores - np.logaddexp.reduce(scores))


def test_the_gradient_of_the_maximum_entropy_loss_is_the_likelihoods() -> None:
    """Minus (expert's minus policy's expected features), against finite differences of log E-likelihood."""
    weights = torch.tensor(WEIGHTS, requires_grad=True)
    contrast = by_answer(torch.from_numpy(FEATURES) @ weights, EXPERT, (1, 3, 2, 6))
    MaximumEntropy(regulariser=0.0).losses(contrast).sum().backward()
    policy = np.exp(FEATURES @ WEIGHTS) / 12
    assert weights.grad is not None
    np.testing.assert_allclose(weights.grad, -(chance(EXPERT) - policy) @ FEATURES, atol=1e-12)
    step = 1e-5
    slopes = [(log_likelihood(WEIGHTS + d) - log_likelihood(WEIGHTS - d)) / (2 * step) for d in np.eye(2) * step]
    np.testing.assert_allclose(weights.grad, -np.array(slopes), atol=1e-9)


def test_at_the_maximum_entropy_reward_expected_features_are_the_experts() -> None:
    """... and the loss has no gradient there, with the policy that the reward has as its optimum."""
    weights = maximum_entropy_weights(FEATURES, chance(EXPERT))
    policy = np.exp(FEATURES @ weights) / np.exp(FEATURES @ weights).sum()
    np.testing.assert_allclose(FEATURES.T @ policy, FEATURES.T @ chance(EXPERT), atol=1e-12)
    assert np.abs(policy - chance(EXPERT)).max() > 1e-3  # features do not tell answers apart
    # Features that do: the policy is the expert itself, which can be listed as samples.
    every = np.eye(4)[:, 1:]
    weights = maximum_entropy_weights(every, chance(EXPERT))
    table = torch.tensor(weights, requires_grad=True)
    contrast = by_answer(torch.from_numpy(every) @ table, EXPERT, EXPERT)
    MaximumEntropy(regulariser=0.0).losses(contrast).sum().backward()
    assert table.grad is not None and float(table.grad.abs().max()) < 1e-12
    np.testing.assert_allclose(np.exp(every @ weights) / np.exp(every @ weights).sum(), chance(EXPERT), atol=1e-12)


def test_an_expert_without_doubt_has_no_finite_reward() -> None:
    with pytest.raises(ConfigurationError, match="no maximum"):
        maximum_entropy_weights(np.eye(4)[:, 1:], np.array([0.0, 1.0, 0.0, 0.0]))


def test_the_pull_bounds_the_maximum_entropy_reward() -> None:
    """Two answers, each given by one side alone: r = 1/c and -1/c."""
    form = MaximumEntropy(regulariser=0.25)
    (rewards,) = minimum(lambda r: form.losses(by_answer(r, (1, 0), (0, 1))).sum(), 2)
    np.testing.assert_allclose(rewards, [4.0, -4.0], atol=1e-9)


def test_prompts_count_the_same_whatever_the_number_of_their_answers() -> None:
    rewards = torch.tensor([0.0, 1.0, 2.0, 5.0, 7.0], dtype=torch.float64)
    expert = torch.tensor([True, False, False, True, False])
    batch = Contrast(rewards, expert, torch.tensor([0, 0, 0, 1, 1]), 2)
    assert MaximumEntropy(regulariser=0.0).losses(batch).tolist() == [1.5 - 0.0, 7.0 - 5.0]
    assert Discriminator().told(batch).tolist() == [0.5, 0.0, 0.0, 1.0, 0.0]


def test_settings_that_make_no_sense_are_refused() -> None:
    for made in (
        lambda: Discriminator("odds"),
        lambda: ShapedDiscriminator(0.0),
        lambda: MaximumEntropy(temperature=0.0),
        lambda: MaximumEntropy(regulariser=-1.0),
    ):
        with pytest.raises(ConfigurationError):
            made()
