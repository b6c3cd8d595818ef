"""What imitation costs where errors are seen again, and what it minimises; by recursion and by listing answers.

The chain: the expert walks along a path of T steps. `go` stays on the path; anything else leaves it. Beside the path
only `back` returns to it, if anything does. A step that ends beside the path costs 1, so the expert's cost is 0.

A learner errs with probability eps wherever it was taught. Taught on the expert's path alone it never saw the expert
return, and so never does; taught where it goes itself, it returns with probability 1 - eps. Their costs are

    cloning    sum_(t = 1 .. T) 1 - (1 - eps)^t  <=  eps T (T + 1) / 2        equal to first order in eps
    DAgger     eps T                                                          where the path can be reached again,

and without a way back both have the first (Ross and Bagnell 2010, theorem 2.1; Ross, Gordon and Bagnell 2011).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from laurel.errors import ConfigurationError
from laurel.theory.world import History, Reply, World
from laurel.tree import Ending, FloatArray

GO, STRAY, BACK = range(3)
ON, OFF = range(2)
NEWTON_STEPS = 50


def taught_on_path(error: float) -> FloatArray:
    """The policy of a learner that saw the expert's own path only, [2 states, 3 actions]: it never returns."""
    return np.array([[1 - error, error, 0.0], [1 - error, error, 0.0]])


def taught_everywhere(error: float) -> FloatArray:
    """The policy of a learner that was told the expert's action wherever it went itself, [2 states, 3 actions]."""
    return np.array([[1 - error, error, 0.0], [0.0, error, 1 - error]])


def chain_cost(policy: FloatArray, horizon: int, *, recoverable: bool = True) -> float:
    """Expected number of the `horizon` steps that end beside the path, exactly.

    Args:
        policy: [2, 3], probabilities of go, stray and back on the path and beside it.
        horizon: T.
        recoverable: whether `back` leads to the path again.

    Raises:
        ConfigurationError: the table is not two distributions over three actions, or there is no step.
    """
    if policy.shape != (2, 3) or policy.min() < 0 or np.abs(policy.sum(1) - 1).max() > 1e-9:
        raise ConfigurationError(
            f"A policy of the chain holds two distributions over three actions, got {policy.tolist()}.",
            hint="start from taught_on_path or taught_everywhere.",
        )
    if horizon < 1:
        raise ConfigurationError(f"A chain needs at least 1 step, got {horizon}.")
    leaves = 1 - policy[ON, GO]
    returns = policy[OFF, BACK] if recoverable else 0.0
    beside, cost = 0.0, 0.0
    for _ in range(horizon):
        beside = (1 - beside) * leaves + beside * (1 - returns)
        cost += beside
    return float(cost)


def chain_world(horizon: int, *, recoverable: bool = True) -> World:
    """The chain as a world that can be listed: its return is minus the cost, its states are `ON` and `OFF`."""

    def where(history: History) -> int:
        place = ON
        for action in history:
            if place == ON:
                place = ON if action == GO else OFF
            elif recoverable and action == BACK:
                place = ON
        return place

    def respond(history: History) -> Reply:
        ending = Ending.TERMINATED if len(history) == horizon else None
        return Reply(reward=-float(where(history) == OFF), ending=ending)

    return World(3, respond, state=where)


def log_log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The least-squares slope of log y on log x: the power by which y grows.

    Raises:
        ConfigurationError: fewer than two points, or one that is not above 0.
    """
    if len(x) < 2 or len(x) != len(y) or min(*x, *y) <= 0:
        raise ConfigurationError("A slope on logarithmic axes needs two points or more, all above 0.")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def best_discriminator(expert: FloatArray, policy: FloatArray) -> FloatArray:
    """The logits, [A], that tell the expert's answers from the policy's best, by Newton's method on

        max over d   sum_y expert(y) log sigmoid(d(y)) + policy(y) log sigmoid(-d(y)).

    They are log expert(y) / policy(y) (Ho and Ermon 2016, arXiv 1606.03476), so that a policy which is paid this
    logit minimises KL(policy, expert): the reverse divergence.

    Args:
        expert, policy: [A], probabilities above 0.
    """
    ours, theirs = torch.from_numpy(policy), torch.from_numpy(expert)
    logits = torch.zeros_like(ours)
    for _ in range(NEWTON_STEPS):
        said = torch.sigmoid(logits)
        slope = theirs * (1 - said) - ours * said
        curvature = (theirs + ours) * said * (1 - said)
        logits = logits + (slope / curvature).clamp(-1, 1)  # far from the optimum a whole step goes astray
    return np.asarray(logits)
