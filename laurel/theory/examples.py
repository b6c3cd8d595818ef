"""Worlds and a policy to audit on: small, uneven, and the same on every machine."""

from __future__ import annotations

import torch

from laurel.theory.world import History, Reply, World, single_turn
from laurel.tree import Ending


def example_world() -> World:
    """Three tokens, at most two of them, token 2 ends: 7 rollouts of two lengths with graded returns."""
    worth = {(2,): 0.2, (0, 0): 0.0, (0, 1): 1.0, (0, 2): 0.0, (1, 0): 0.5, (1, 1): 0.0, (1, 2): 1.0}
    return single_turn(vocabulary=3, horizon=2, score=worth.__getitem__, end=2)


def example_dialogue() -> World:
    """Two turns of binary tokens: 8 rollouts of three policy tokens with two environment tokens after the first.

    The first token pays half of itself at once; the second turn is scored by what it says about the first.
    """

    def respond(history: History) -> Reply:
        if len(history) == 1:
            return Reply(observation=(5, 6 + history[0]), reward=0.5 * history[0])
        if len(history) == 4:
            return Reply()
        return Reply(ending=Ending.TERMINATED, score=float(history[0] != history[3]) + 0.25 * history[4])

    return World(2, respond)


def example_logits(world: World) -> torch.Tensor:
    """An uneven table [S, V] that is the same on every machine."""
    cells = torch.arange(len(world.states) * world.vocabulary, dtype=torch.float64)
    return torch.sin(2.3 * cells + 0.7).reshape(len(world.states), world.vocabulary)
