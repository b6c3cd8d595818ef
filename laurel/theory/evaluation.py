"""Learning values: one number after another; from a batch, by Monte Carlo or temporal differences; and divergence."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from laurel.errors import ConfigurationError
from laurel.theory.world import Path, World
from laurel.tree import FloatArray

Episode = Sequence[tuple[Hashable, float]]


def followed_values(seen: Sequence[float], *, step_size: float | None = None, start: float = 0.0) -> FloatArray:
    """V_n = V_(n-1) + a_n (x_n - V_(n-1)), the estimate after each of the numbers that were seen, [N].

        step_size None   a_n = 1/n: the mean of all that was seen. Each counts alike, and `start` does not.
        step_size a      x_i counts a (1 - a)^(n - i), `start` (1 - a)^n: the past is forgotten, noise stays.

    Of numbers that rise by d each, the mean falls behind by d (n - 1) / 2, a fixed fraction by d (1 - a) / a in the
    long run; of independent noise of variance s^2, the mean keeps s^2 / n, a fixed fraction s^2 a / (2 - a).

    Args:
        seen: [N] x.
        step_size: a, in (0, 1], or None.
        start: V_0.

    Example: (4, 0, 2) give 4, 2, 2 by the mean, and 2, 1, 1.5 by halves from 0.
    Source: Sutton and Barto, sections 2.4 and 2.5.

    Raises:
        ConfigurationError: another step size.
    """
    if step_size is not None and not 0 < step_size <= 1:
        raise ConfigurationError(f"A step size must lie in (0, 1], got {step_size!r}.", hint="None is 1/n.")
    value, values = start, np.empty(len(seen))
    for place, number in enumerate(seen):
        value += (1 / (place + 1) if step_size is None else step_size) * (number - value)
        values[place] = value
    return values


def path_episode(world: World, path: Path) -> Episode:
    """A path as (state, reward after it) pairs; the state is what the policy sees of the history."""
    return [(world.state(history), reward) for history, reward in zip(path.histories, path.rewards, strict=True)]


def batch_monte_carlo(episodes: Sequence[Episode]) -> dict[Hashable, float]:
    """V(s) = mean over all visits of s of the rewards that followed: the best fit to the batch."""
    seen: dict[Hashable, list[float]] = {}
    for episode in episodes:
        to_go = 0.0
        for state, reward in reversed(episode):
            to_go += reward
            seen.setdefault(state, []).append(to_go)
    return {state: float(np.mean(followed)) for state, followed in seen.items()}


def batch_temporal_difference(episodes: Sequence[Episode]) -> dict[Hashable, float]:
    """The fixed point of batch TD(0): V(s) = mean over all visits of s of (r + V(next)), 0 after the end.

    These are the exact values of the most likely Markov model of the batch (Sutton and Barto, section 6.3). On a tree
    of prefixes no states merge, and they are the Monte-Carlo values; where states merge they differ.
    """
    states = {state: index for index, state in enumerate(dict.fromkeys(s for episode in episodes for s, _ in episode))}
    flow, earned, visits = np.zeros((len(states), len(states))), np.zeros(len(states)), np.zeros(len(states))
    for episode in episodes:
        for step, (state, reward) in enumerate(episode):
            visits[states[state]] += 1
            earned[states[state]] += reward
            if step + 1 < len(episode):
                flow[states[state], states[episode[step + 1][0]]] += 1
    values = np.linalg.solve(np.diag(visits) - flow, earned)
    return dict(zip(states, values.tolist(), strict=True))


def linear_td_matrix(
    features: FloatArray, transitions: FloatArray, weights: FloatArray, *, discount: float
) -> FloatArray:
    """The matrix M of the expected TD(0) update dw = step * (M w + b) for values `features @ w`. [D, D]

    M = features^T diag(weights) (discount transitions - 1) features. The update converges for small steps iff all
    eigenvalues of M have negative real parts: always under the visits of the policy itself, not under other weights
    (Sutton and Barto, sections 9.4 and 11.2).

    Args:
        features: [S, D].
        transitions: [S, S], rows sum to at most 1; what is missing ends.
        weights: [S], how often each state is updated.
    """
    size = len(weights)
    return np.asarray(features.T @ np.diag(weights) @ (discount * transitions - np.eye(size)) @ features)


def converges(matrix: FloatArray) -> bool:
    """Whether the expected update with this matrix converges for small steps."""
    return bool((np.linalg.eigvals(matrix).real < 0).all())
