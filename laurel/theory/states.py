"""From tables over histories to what a critic would say on a tree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from laurel.theory.world import History, World
from laurel.tree import FloatArray, Tree


def token_histories(tree: Tree) -> list[History]:
    """The history before each token of a tree of an enumerable world, T of them; segment 0 is the whole prompt."""
    before: list[History] = []
    after: dict[int, History] = {-1: ()}
    for token, parent in enumerate(tree.flat.parent.tolist()):
        before.append(after[parent])
        in_prompt = tree.flat.segment[token] == 0
        after[token] = () if in_prompt else (*after[parent], int(tree.flat.tokens[token]))
    return before


def token_values(tree: Tree, values: Mapping[History, float]) -> FloatArray:
    """The value after each token of a tree of an enumerable world, [T]; NaN after which no decision is known.

    The NaN are meant: what must not be read cannot go unnoticed when it is. Segment 0 must be the whole prompt.
    """
    after = np.full(len(tree.flat), np.nan)
    for token, before in enumerate(token_histories(tree)):
        in_prompt = tree.flat.segment[token] == 0
        if not in_prompt or token == tree.flat.ends[0] - 1:
            history = () if in_prompt else (*before, int(tree.flat.tokens[token]))
            after[token] = values.get(history, np.nan)
    return after


def token_log_ratios(tree: Tree, world: World, logits: torch.Tensor, behaviour: torch.Tensor) -> FloatArray:
    """log pi - log mu of every policy token of a tree of `world`, [T]; NaN on the others.

    Args:
        logits, behaviour: [S, V], the tables of pi and of mu, which drew the tokens.
    """
    difference = torch.log_softmax(logits, -1) - torch.log_softmax(behaviour, -1)
    ratios = np.full(len(tree.flat), np.nan)
    for token, before in enumerate(token_histories(tree)):
        if tree.flat.policy[token]:
            ratios[token] = float(difference[world.states[world.state(before)], tree.flat.tokens[token]])
    return ratios
