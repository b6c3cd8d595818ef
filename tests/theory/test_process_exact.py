"""Process scores against the exact gradient, by listing every group of rollouts."""

from dataclasses import replace

import numpy as np
import pytest

from laurel.credit import ProcessScores
from laurel.objectives import ConstantLength, PolicyGradient
from laurel.theory import (
    World,
    example_dialogue,
    example_logits,
    example_world,
    forking,
    gradient_distribution,
    groups,
    history_values,
    return_gradient,
)
from laurel.theory.steps import one_step_per_token, with_step_values
from laurel.tree import Ending, Tree


def scored(tree: Tree, values: dict) -> Tree:
    """Every step with the value of the state in which the next begins, and 9 where none does."""
    return with_step_values(tree, values, beyond=9.0)


def expected(world: World, values: dict, samples: int, cut=lambda tree: tree) -> np.ndarray:
    def credit(trees):
        return ProcessScores()([scored(cut(tree), values) for tree in trees])

    logits = example_logits(world)
    return gradient_distribution(
        groups(world, logits, samples), logits, credit=credit, losses=(PolicyGradient(),), reduction=ConstantLength()
    ).mean


def terminating(world: World) -> World:
    """The same world; what its horizon cuts off is the end, since nothing is known beyond."""

    def respond(history):
        reply = world.respond(history)
        return reply if reply.ending is None else replace(reply, ending=Ending.TERMINATED)

    return replace(world, respond=respond)


@pytest.mark.parametrize("world", [terminating(example_world()), example_dialogue()], ids=["single turn", "dialogue"])
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("cut", [lambda tree: tree, one_step_per_token], ids=["turns", "tokens"])
def test_exact_values_give_the_exact_gradient(world, samples, cut):
    logits = example_logits(world)
    given = expected(world, history_values(world, logits), samples, cut)
    np.testing.assert_allclose(given, return_gradient(world, logits), atol=1e-10)


def test_wrong_values_are_paid_for_with_bias():
    world = example_dialogue()
    logits = example_logits(world)
    wrong = {
        history: value + np.sin(7.0 * i + 1) for i, (history, value) in enumerate(history_values(world, logits).items())
    }
    assert np.abs(expected(world, wrong, 1, one_step_per_token) - return_gradient(world, logits)).max() > 1e-2


def width(history: tuple[int, ...]) -> int:
    """Two ways on from the prompt, and after a first token of 1, depending on the draw, two again."""
    return 2 if len(history) == 0 or (history[0] == 1 and len(history) < 4) else 1


@pytest.mark.parametrize("world", [terminating(example_world()), example_dialogue()], ids=["single turn", "dialogue"])
@pytest.mark.parametrize("reading", ["values", "rewards"])
def test_samples_that_fan_out_keep_the_gradient_exact(world, reading):
    logits = example_logits(world)
    values = history_values(world, logits)

    def credit(trees):
        if reading == "rewards":  # what segments pay, and no score beside it
            return ProcessScores(None, reading)(trees)
        return ProcessScores()([scored(tree, values) for tree in trees])

    given = gradient_distribution(
        forking(world, logits, width), logits, credit=credit, losses=(PolicyGradient(),), reduction=ConstantLength()
    ).mean
    np.testing.assert_allclose(given, return_gradient(world, logits), atol=1e-10)
