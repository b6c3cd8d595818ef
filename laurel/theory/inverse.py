"""Inverse reinforcement learning by listing every rollout: occupancies, and rewards whose optimum is an expert."""

from __future__ import annotations

import numpy as np
import torch

from laurel.errors import ConfigurationError
from laurel.theory.world import World
from laurel.tree import FloatArray

NEWTON_STEPS = 100
SOLVED = 1e-13
NEVER = 1e-12


def occupancy(world: World, path_probs: FloatArray) -> FloatArray:
    """How often each token is expected to be chosen in each state, [S, V]; over tokens it sums to the state's visits.

    Args:
        path_probs: [P] the probability of every path of the world.
    """
    visits = np.zeros((len(world.states), world.vocabulary))
    for chance, path in zip(path_probs.tolist(), world.paths, strict=True):
        for state, token in zip(path.states, path.tokens, strict=True):
            visits[state, token] += chance
    return visits


def maximum_entropy_weights(features: FloatArray, expert: FloatArray) -> FloatArray:
    """The weights w, [F], of the reward r(y) = w . features(y) that makes the expert's answers most likely under

        p(y) = exp(r(y)) / sum_y' exp(r(y')),

    the distribution of greatest entropy whose expected features are the expert's (Ziebart et al. 2008, equations 2 and
    6). By Newton's method: the gradient of the log-likelihood is E_expert[features] - E_p[features].

    Args:
        features: [A, F] of every answer, F numbers that no constant combines from each other.
        expert: [A] probabilities.

    Raises:
        ConfigurationError: no weights are best: the expert never writes an answer at the edge of the features.
    """
    wanted, weights = features.T @ expert, np.zeros(features.shape[1])
    for _ in range(NEWTON_STEPS):
        policy = np.asarray(torch.softmax(torch.from_numpy(features @ weights), 0))
        missing = wanted - features.T @ policy
        if policy.min() < NEVER:
            break
        if np.abs(missing).max() < SOLVED:
            return weights
        centred = features - features.T @ policy
        curvature = centred.T @ (policy[:, None] * centred)
        step = np.linalg.lstsq(curvature, missing, rcond=None)[0]
        weights = weights + step / max(1.0, float(np.abs(features @ step).max()))
    raise ConfigurationError(
        "The likelihood of the expert's answers has no maximum at finite weights.",
        hint="give the expert some probability of every answer, or leave redundant features out.",
    )
