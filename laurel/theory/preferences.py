"""Preferences over answers that can be listed: what a preference loss converges to, given unlimited data.

Answers are numbered 0 ... A - 1. A preference table holds p[i, j], the probability that i is preferred to j, with
p[i, j] + p[j, i] = 1. A policy is pi(y) = ref(y) exp(u(y)) / Z: its log-ratios are u up to a constant, so a loss of
differences of log-ratios is a convex function of u. All in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from laurel.errors import ConfigurationError
from laurel.tree import FloatArray

PairLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(log-ratios of the better answers, of the worse ones) to losses, such as `functools.partial(dpo_loss, beta=0.1)`."""

NEWTON_STEPS = 200
SOLVED = 1e-12
FLAT = 1e-9
"""A curvature so much smaller than at the reference means that the optimum lies at infinity."""


def bradley_terry(rewards: FloatArray) -> FloatArray:
    """p[i, j] = sigmoid(r_i - r_j), [A, A]."""
    return np.asarray(1 / (1 + np.exp(-(rewards[:, None] - rewards[None, :]))))


def thurstone(rewards: FloatArray, spread: FloatArray) -> FloatArray:
    """p[i, j] = Phi((r_i - r_j) / sqrt(s_i^2 + s_j^2)), [A, A]: each answer is judged with a noise of its own.

    Where the spreads differ no reward makes this a Bradley-Terry table (Thurstone 1927, case III).
    """
    scale = np.sqrt(spread[:, None] ** 2 + spread[None, :] ** 2)
    standard = torch.special.ndtr(torch.from_numpy((rewards[:, None] - rewards[None, :]) / scale))
    return np.asarray(standard)


def population_loss(log_ratios: torch.Tensor, preferences: FloatArray, loss: PairLoss) -> torch.Tensor:
    """Mean over all ordered pairs i != j of p[i, j] * loss(log-ratio(i), log-ratio(j)): every pair is asked for alike.

    Args:
        log_ratios: [A], differentiable.
        preferences: [A, A].
    """
    count = len(preferences)
    better, worse = torch.triu_indices(count, count, 1)
    weights = torch.from_numpy(preferences)
    forwards = weights[better, worse] * loss(log_ratios[better], log_ratios[worse])
    backwards = weights[worse, better] * loss(log_ratios[worse], log_ratios[better])
    return (forwards + backwards).mean() / 2


def preference_optimum(reference: FloatArray, preferences: FloatArray, loss: PairLoss) -> FloatArray:
    """The policy over A answers that minimises `population_loss`, by Newton's method. [A].

    For DPO on a Bradley-Terry table of rewards r this is ref(y) exp(r(y) / beta) / Z, the maximiser of
    E[r] - beta KL(pi, ref) (arXiv 2305.18290, section 4).

    Args:
        reference: [A], probabilities above 0.
        preferences: [A, A].
        loss: convex in the difference of its arguments.

    Raises:
        ConfigurationError: there is no optimum at a finite distance, as for DPO on preferences that are certain.
    """

    def value(free: torch.Tensor) -> torch.Tensor:
        return population_loss(torch.cat([free.new_zeros(1), free]), preferences, loss)

    def curvature(at: torch.Tensor) -> torch.Tensor:
        matrix: torch.Tensor = torch.autograd.functional.hessian(value, at)  # type: ignore[no-untyped-call]
        return matrix

    free = torch.zeros(len(preferences) - 1, dtype=torch.float64)
    flat = FLAT * torch.linalg.eigvalsh(curvature(free)).min()
    for _ in range(NEWTON_STEPS):
        matrix = curvature(free)
        if bool(torch.linalg.eigvalsh(matrix).min() < flat):
            raise ConfigurationError(
                "The loss has no minimum at a finite distance from the reference: some preferences are certain.",
                hint="smooth the labels, or take a loss that aims at a finite margin (IPO).",
            )
        gradient: torch.Tensor = torch.autograd.functional.jacobian(value, free)  # type: ignore[no-untyped-call]
        step = torch.linalg.solve(matrix, gradient)
        size = 1.0
        while size > SOLVED and not float(value(free - size * step)) <= float(value(free)):
            size /= 2
        free = free - size * step
        if float(step.abs().max()) < SOLVED * (1 + float(free.abs().max())):
            break
    logits = torch.log(torch.from_numpy(reference)) + torch.cat([free.new_zeros(1), free])
    return np.asarray(torch.softmax(logits, 0))


def fitted_rewards(preferences: FloatArray) -> FloatArray:
    """The rewards of the Bradley-Terry model of greatest likelihood, with mean 0, [A]: stage two of RLHF.

    Raises:
        ConfigurationError: as `preference_optimum`.
    """
    uniform = np.full(len(preferences), 1 / len(preferences))

    def loss(better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
        return -torch.nn.functional.logsigmoid(better - worse)

    rewards = np.log(preference_optimum(uniform, preferences, loss))
    return np.asarray(rewards - rewards.mean())


def tilted(reference: FloatArray, rewards: FloatArray, beta: float) -> FloatArray:
    """ref(y) exp(r(y) / beta) / Z, the maximiser of E[r] - beta KL(pi, ref): stage three of RLHF. [A]."""
    logits = np.log(reference) + rewards / beta
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def regularised_value(policy: FloatArray, reference: FloatArray, rewards: FloatArray, beta: float) -> float:
    """E[r] - beta KL(pi, ref), in units of the reward; its maximum is beta log Z."""
    return float(policy @ (rewards - beta * (np.log(policy) - np.log(reference))))


def total_variation(one: FloatArray, other: FloatArray) -> float:
    """Half the sum of absolute differences, in [0, 1]."""
    return float(np.abs(one - other).sum() / 2)
