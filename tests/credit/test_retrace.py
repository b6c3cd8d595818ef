"""Retrace: by hand, on-policy, and its fixed point by listing every rollout."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from laurel.credit import Retrace, retrace
from laurel.errors import ConfigurationError
from laurel.theory import example_dialogue, example_logits, example_world, history_values, path_log_probs
from laurel.tree import Ending, Outcome, Score, Segment, Source, Tree


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


def dialogue(generator: np.random.Generator, ending: Ending) -> Tree:
    """A path of two or three turns of one to three tokens, each answered, and everything paid for."""
    segments = [Segment(Source.PROMPT, [1, 2], -1)]
    for _ in range(generator.integers(2, 4)):
        tokens = generator.integers(9, size=generator.integers(1, 4))
        segments.append(Segment(Source.POLICY, tokens, len(segments) - 1, reward=generator.normal()))
        segments.append(Segment(Source.ENVIRONMENT, [3, 4], len(segments) - 1, reward=generator.normal()))
    segments[-1] = replace(segments[-1], outcome=Outcome(ending, "stop", Score(generator.normal())))
    return Tree("t", "t", tuple(segments))


@pytest.mark.parametrize("seed", range(6))
def test_the_rule_is_retrace_with_the_action_values_that_a_critic_of_states_knows(seed):
    generator = np.random.default_rng(seed)
    tree = dialogue(generator, Ending.TRUNCATED if seed % 2 else Ending.TERMINATED)
    values, log_ratios = generator.normal(size=(2, len(tree.flat)))
    (credit,) = Retrace(decay=0.8, discount=0.9)([tree], [values], [log_ratios])

    drawn = np.flatnonzero(tree.flat.policy)
    before = values[tree.flat.parent[drawn]]  # V(s_t)
    after = np.append(before[1:], values[-1] if seed % 2 else 0.0)  # V(s_t+1)
    paid = np.zeros(len(tree.flat))
    paid[tree.flat.ends - 1] = [segment.reward for segment in tree.segments]
    paid[-1] += tree.rollouts[0].outcome.score.value
    rewards = np.add.reduceat(paid, drawn)  # up to the next decision
    ratio = np.exp(log_ratios[drawn])
    q = rewards + 0.9 * after
    # E_pi Q(s_t+1, .) from the action that was drawn there; after the last token there is none.
    expected_q = after + np.append((ratio * (q - before))[1:], 0.0)
    targets = retrace(q, expected_q, rewards, log_ratios[drawn], discount=0.9, decay=0.8)
    np.testing.assert_allclose(credit.advantages[drawn], ratio * (targets - before), atol=1e-12)
    worth = before + ratio * (q - before) + 0.8 * np.minimum(ratio, 1) * (targets - q)
    np.testing.assert_allclose(credit.value_targets[drawn], worth, atol=1e-12)


def test_differences_are_not_cut_and_traces_are():
    # Two tokens, ratios 4 and 0.5, V = 0, R = 1: the second is worth 0.5, the first min(4, 1) of it and not 4.
    outcome = Outcome(Ending.TERMINATED, "stop", Score(1.0))
    tree = Tree("t", "t", (Segment(Source.PROMPT, [1], -1), Segment(Source.POLICY, [2, 3], 0, outcome=outcome)))
    (credit,) = Retrace()([tree], [np.zeros(3)], [np.log([1.0, 4.0, 0.5])])
    np.testing.assert_allclose(credit.value_targets, [0, 0.5, 0.5])
    np.testing.assert_allclose(credit.advantages, [0, 4 * 0.5, 0.5])
    (credit,) = Retrace()([tree], [np.zeros(3)], [np.log([1.0, 0.5, 4.0])])
    np.testing.assert_allclose(credit.value_targets, [0, 0.5 * 4, 4])
    np.testing.assert_allclose(credit.advantages, [0, 0.5 * 4, 4])


def test_nonsense_is_refused():
    with pytest.raises(ConfigurationError, match="decay"):
        retrace(np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1), decay=1.5)
