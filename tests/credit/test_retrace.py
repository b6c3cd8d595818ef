"""Retrace: by hand, on-policy, and its fixed point by listing every rollout."""

import numpy as np
import pytest
import torch

from laurel.credit import retrace
from laurel.errors import ConfigurationError
from laurel.theory import example_dialogue, example_logits, example_world, history_values, path_log_probs


def test_hand_computed():
    # delta: 0 + 0.9*0.6 - 0.5 = 0.04; 1 + 0 - 0.7 = 0.3. c of the second: 0.5 min(1, 2) = 0.5.
    # targets: second 1; first 0.5 + 0.04 + 0.9 * 0.5 * 0.3 = 0.675.
    targets = retrace(
        np.array([0.5, 0.7]),
        np.array([0.6, 0.0]),
        np.array([0.0, 1.0]),
        np.log([7.0, 2.0]),
        discount=0.9,
        decay=0.5,
    )
    np.testing.assert_allclose(targets, [0.675, 1.0])
    below_one = retrace(np.array([0.5, 0.7]), np.array([0.6, 0.0]), np.array([0.0, 1.0]), np.log([7.0, 0.25]))
    np.testing.assert_allclose(below_one, [0.5 + 0.1 + 0.25 * 0.3, 1.0])


def test_on_policy_without_decay_it_is_the_return():
    generator = np.random.default_rng(0)
    q, rewards = generator.normal(size=(2, 5))
    expected_q = np.append(q[1:], 0.0)  # a policy without a choice: the expectation is the action's own value
    np.testing.assert_allclose(retrace(q, expected_q, rewards, np.zeros(5)), np.cumsum(rewards[::-1])[::-1], atol=1e-12)


@pytest.mark.parametrize("world", [example_world(), example_dialogue()], ids=["single turn", "dialogue"])
@pytest.mark.parametrize("decay", [0.0, 0.6, 1.0])
def test_the_action_values_of_the_policy_are_its_fixed_point_under_any_sampler(world, decay):
    logits, behaviour = example_logits(world), -0.7 * example_logits(world)
    values = history_values(world, logits)
    log_ratio = torch.log_softmax(logits, -1) - torch.log_softmax(behaviour, -1)
    chances = path_log_probs(world, behaviour).exp().tolist()
    mass, worth, exact = {}, {}, {}
    for chance, path in zip(chances, world.paths, strict=True):
        onward = np.array([*(values[history] for history in path.histories[1:]), 0.0])
        q = np.array(path.rewards) + onward
        ratios = np.array([log_ratio[cell].item() for cell in zip(path.states, path.tokens, strict=True)])
        targets = retrace(q, onward, np.array(path.rewards), ratios, decay=decay)
        for key, target, known in zip(zip(path.histories, path.tokens, strict=True), targets, q, strict=True):
            mass[key], exact[key] = mass.get(key, 0.0) + chance, known
            worth[key] = worth.get(key, 0.0) + chance * target
    assert {key: worth[key] / mass[key] for key in mass} == pytest.approx(exact, abs=1e-10)


def test_nonsense_is_refused():
    with pytest.raises(ConfigurationError, match="decay"):
        retrace(np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1), decay=1.5)
