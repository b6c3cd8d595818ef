"""From tables over histories to what a critic would say on a tree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from laurel.theory.world import History
from laurel.tree import FloatArray, Tree


def token_values(tree: Tree, values: Mapping[History, float]) -> FloatArray:
    """The value after each token of a tree of an enumerable world, [T]; NaN after which no decision is known.

    The NaN are meant: what must not be read cannot go unnoticed when it is. Segment 0 must be the whole prompt.
    """
    after = np.full(len(tree.flat), np.nan)
    histories: dict[int, History] = {-1: ()}
    for token, parent in enumerate(tree.flat.parent.tolist()):
        in_prompt = tree.flat.segment[token] == 0
        histories[token] = () if in_prompt else (*histories[parent], int(tree.flat.tokens[token]))
        if not in_prompt or token == tree.flat.ends[0] - 1:
            after[token] = values.get(histories[token], np.nan)
    return after
