"""The study of replayed values, in short: the task, the backup, both learners and what counts as a collapse."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from laurel.theory import expected_return, group_tree, soft_bellman_policy, token_histories
from studies.replay_learners import (
    DECAY,
    HORIZON,
    MAXIMUM_GRADIENT_NORM,
    TEMPERATURE,
    Descent,
    Drawn,
    Learner,
    Networks,
    ProximalPolicy,
    ReplayedValues,
    chart,
    course,
    drawn,
    seen,
    soft_backup,
    walked,
)
from studies.replayed_values import Measured, collapsed, fell, soft_optimum

UNTRAINED = 1 / 81 + 2 / 3 / 27
"""Four steps forward, or one that failed at place 0 and then three: each step has one token pair in three."""


def test_the_walk_by_hand() -> None:
    assert [walked(0, 0, 0), walked(0, 1, 2), walked(0, 1, 1)] == [1, 1, 0]
    assert [walked(2, 1, 1), walked(2, 0, 1), walked(3, 2, 1)] == [3, 1, 4]
    assert seen(()) == (0, 0, None) and seen((2,)) == (0, 0, 2)
    assert seen((0, 0, 4)) == (1, 1, None) and seen((0, 0, 4, 1)) == (1, 1, 1)


def test_the_tables_say_what_the_enumerated_world_says() -> None:
    table = chart()
    states = len(table.world.states)
    assert states == 4 * (1 + 2 + 3 + 4) and len(table.world.paths) == 3**HORIZON
    assert len({tuple(row.tolist()) for row in table.features}) == states
    uniform = torch.full((1, states, 3), 1 / 3, dtype=torch.float64)
    assert float(table.returned(uniform)) == pytest.approx(UNTRAINED, abs=1e-12)
    logits = torch.randn(states, 3, generator=torch.Generator().manual_seed(0)).double()
    exact = float(expected_return(table.world, logits))
    assert float(table.returned(torch.softmax(logits, -1)[None])) == pytest.approx(exact, abs=1e-12)


def test_a_soft_backup_by_hand() -> None:
    """Of state 0 with logits (0, log 3): mean of exp is 2. What is paid counts in units of the temperature."""
    logits = torch.tensor([[[0.0, math.log(3)], [1.0, 1.0]]])
    wanted = soft_backup(torch.tensor([[0.0, 0.5, 1.0]]), logits, torch.tensor([[0, 1, 2]]))
    assert wanted[0].tolist() == pytest.approx([math.log(2), 0.5 / TEMPERATURE + 1, 1 / TEMPERATURE])


def test_the_fixed_point_of_the_backup_is_the_soft_optimum() -> None:
    table = chart()
    logits = torch.zeros(1, *table.rewards.shape, dtype=torch.float64)
    for _ in range(HORIZON):
        logits = soft_backup(table.rewards.view(1, -1), logits, table.following.view(1, -1)).view_as(logits)
    chances = torch.softmax(logits, -1)
    exact = soft_bellman_policy(table.world, torch.zeros_like(logits[0]), TEMPERATURE)
    for history, policy in exact.items():
        here = chances[0, table.world.states[table.world.state(history)]]
        np.testing.assert_allclose(here, policy, atol=1e-12)
    assert float(table.returned(chances)) == pytest.approx(soft_optimum(), abs=1e-12)
    assert soft_optimum() > 0.99


def test_rollouts_follow_the_walk_and_the_chances() -> None:
    chances = torch.tensor([0.2, 0.0, 0.8]).double().expand(2, len(chart().following), 3)
    round_ = drawn(chances, [0, 1], 0)
    assert not bool((round_.tokens == 1).any())
    assert float((round_.tokens == 0).double().mean()) == pytest.approx(0.2, abs=0.06)
    assert bool((round_.states[:, :, 0] == 0).all())
    after = chart().following[round_.states, round_.tokens]
    assert bool((after[:, :, :-1] == round_.states[:, :, 1:]).all()) and bool((after[:, :, -1] == 40).all())
    assert bool((drawn(chances[:1], [1], 0).tokens[0] == round_.tokens[1]).all())


def test_the_credit_of_ppo_is_the_recursion_of_its_advantages() -> None:
    learner = ProximalPolicy([0, 1], 0.01)
    round_ = drawn(learner.chances(), [0, 1], 0)
    before = torch.randn(round_.states.shape, generator=torch.Generator().manual_seed(1)).double()
    # A value belongs to a state: the one before the first token is the same in all rollouts.
    before[:, :, 0] = before[:, :1, 0]
    advantages, targets = learner.credit(round_, before)
    rewards = chart().rewards[round_.states, round_.tokens]
    following = torch.zeros_like(before[:, :, 0])
    value = torch.zeros_like(following)
    for step in reversed(range(HORIZON)):
        following = rewards[:, :, step] + value - before[:, :, step] + DECAY * following
        np.testing.assert_allclose(advantages[:, :, step], following, atol=1e-12)
        value = before[:, :, step]
    np.testing.assert_allclose(targets, advantages + before, atol=1e-12)


def test_the_tree_that_credit_reads_holds_the_rollouts_that_were_drawn() -> None:
    world = chart().world
    path = world.paths[1234]
    tree = group_tree(world, (path,))
    policy = tree.flat.policy
    assert [chart().world.states[seen(h)] for h, own in zip(token_histories(tree), policy, strict=True) if own] == list(
        path.states
    )
    assert sum(token * 3 ** (HORIZON - 1 - step) for step, token in enumerate(path.tokens)) == 1234


def test_a_gradient_is_shortened_for_each_seed_alone() -> None:
    networks = Networks([0, 1], 3)
    factors = torch.tensor([1.0, 0.001]).double()
    loss = factors * torch.stack([weight.sum((1, 2)) for weight in networks.weights]).sum(0)
    Descent(networks, 0.1).step(loss)
    given = torch.cat([weight.grad.flatten(1) for weight in networks.weights if weight.grad is not None], 1)
    size = given.shape[1] ** 0.5
    np.testing.assert_allclose(given[0].norm(), MAXIMUM_GRADIENT_NORM)
    np.testing.assert_allclose(given[1].norm(), 0.001 * size)


@pytest.mark.parametrize("method", [ProximalPolicy, ReplayedValues])
def test_seeds_learn_alone_and_again_alike(method: Callable[[list[int], float], Learner]) -> None:
    both = course(method([3, 4], 0.03), [3, 4], 4)
    assert float(both[0, 0]) == float(both[1, 0]) == pytest.approx(UNTRAINED)
    assert float(both[0, -1]) != float(both[1, -1])
    np.testing.assert_array_equal(both, course(method([3, 4], 0.03), [3, 4], 4))
    np.testing.assert_allclose(both[1:], course(method([4], 0.03), [4], 4), atol=1e-9)


def test_both_learn_the_task() -> None:
    seeds = [0, 1]
    assert float(course(ProximalPolicy(seeds, 0.03), seeds, 25)[:, -1].min()) > 0.9
    assert float(course(ReplayedValues(seeds, 0.03, updates=16), seeds, 25)[:, -1].min()) > 0.9


def test_replay_goes_back_to_the_first_round() -> None:
    """A learner with a good first round and empty ones after it still learns that round's reward."""
    learner = ReplayedValues([0], 0.03)
    path = next(path for path in chart().world.paths if sum(path.rewards) == 1)
    good, bad = (
        Drawn(torch.tensor(p.states).expand(1, 32, -1), torch.tensor(p.tokens).expand(1, 32, -1))
        for p in (path, next(path for path in chart().world.paths if sum(path.rewards) == 0))
    )
    learner.learn(good, 0)
    for number in range(1, 6):
        learner.learn(bad, number)
    state, token = path.states[-1], path.tokens[-1]
    assert float(learner.values().detach()[0, state, token]) > 0.1


def test_the_judge_follows_slowly_or_is_the_network_itself() -> None:
    slow, none = ReplayedValues([0], 0.03), ReplayedValues([0], 0.03, target=False)
    round_ = drawn(slow.chances(), [0], 0)
    slow.learn(round_, 0)
    assert none.judge is none.values
    moved, followed = slow.values.weights[1].detach().abs().max(), slow.judge.weights[1].detach().abs().max()
    assert 0 < float(followed) < float(moved) / 2


@pytest.mark.parametrize(
    ("returns", "is_collapsed", "has_fallen"),
    [
        ((0.1, 0.9, 0.46), False, False),
        ((0.1, 0.9, 0.44), True, True),
        ((0.1, 0.9, 0.44, 0.9), False, True),
        ((0.1, 0.4, 0.1, 0.3), False, False),  # it had not learned yet
        ((0.1, 0.12, 0.09), True, False),  # worse than untrained
        ((0.1, 0.1), False, False),
    ],
)
def test_what_counts_as_a_collapse(returns: tuple[float, ...], is_collapsed: bool, has_fallen: bool) -> None:
    assert collapsed(np.array(returns)) is is_collapsed
    assert fell(np.array(returns)) is has_fallen


def test_measured_counts_seeds() -> None:
    one = Measured.of(0.1, np.array([[0.1, 0.9, 0.3], [0.1, 0.8, 1.0]]))
    assert one.collapsed[0] == one.fell[0] == one.reached == 0.5
    assert 0 < one.collapsed[1] < 0.5 < one.collapsed[2] < 1
    assert one.final == pytest.approx((0.475, 0.65, 0.825))
    assert one.mean_return == pytest.approx((1.3 / 3 + 1.9 / 3) / 2)
