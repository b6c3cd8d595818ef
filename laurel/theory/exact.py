"""Exact quantities of an enumerable world under a tabular softmax policy. float64; logits [S, V]; torch for gradients.

pi(a | s) = softmax(logits[s])[a];   p(path) = product over its tokens of pi(a_t | s_t).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from laurel.theory.world import History, Path, World
from laurel.tree import FloatArray


def path_log_probs(world: World, logits: torch.Tensor) -> torch.Tensor:
    """log p(path) of every path, [P], differentiable."""
    table = torch.log_softmax(logits, dim=-1)
    lengths = torch.tensor([len(path.tokens) for path in world.paths])
    states = torch.tensor([state for path in world.paths for state in path.states])
    tokens = torch.tensor([token for path in world.paths for token in path.tokens])
    owner = torch.repeat_interleave(torch.arange(len(world.paths)), lengths)
    return torch.zeros(len(world.paths), dtype=logits.dtype).index_add(0, owner, table[states, tokens])


def path_returns(world: World) -> torch.Tensor:
    """The return of every path, [P]."""
    return torch.tensor([sum(path.rewards) for path in world.paths], dtype=torch.float64)


def expected_return(world: World, logits: torch.Tensor) -> torch.Tensor:
    """J = sum over paths of p(path) R(path), differentiable."""
    return (path_log_probs(world, logits).exp() * path_returns(world)).sum()


def return_gradient(world: World, logits: torch.Tensor) -> FloatArray:
    """dJ / dlogits, [S, V]."""
    table = logits.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(expected_return(world, table), table)
    return np.asarray(gradient)


def score_function_gradient(world: World, logits: torch.Tensor, advantages: Sequence[Sequence[float]]) -> FloatArray:
    """E sum_t A_t grad log pi(a_t | s_t), [S, V], for advantages given per path and token."""
    table = logits.detach().clone().requires_grad_()
    log_table = torch.log_softmax(table, dim=-1)
    chances = path_log_probs(world, table).detach().exp()
    terms = [
        chance * torch.tensor(given, dtype=torch.float64) @ log_table[list(path.states), list(path.tokens)]
        for chance, path, given in zip(chances, world.paths, advantages, strict=True)
    ]
    (gradient,) = torch.autograd.grad(torch.stack(terms).sum(), table)
    return np.asarray(gradient)


def history_values(world: World, logits: torch.Tensor) -> dict[History, float]:
    """V(history) = expected reward still to come, for every history in which the policy acts."""
    chances = path_log_probs(world, logits.detach()).exp()
    mass: dict[History, float] = {}
    worth: dict[History, float] = {}
    for chance, path in zip(chances.tolist(), world.paths, strict=True):
        to_go = np.cumsum(path.rewards[::-1])[::-1]
        for history, reward in zip(path.histories, to_go.tolist(), strict=True):
            mass[history] = mass.get(history, 0.0) + chance
            worth[history] = worth.get(history, 0.0) + chance * reward
    return {history: worth[history] / mass[history] for history in mass}


def path_values(values: dict[History, float], path: Path) -> FloatArray:
    """V before each token of a path and after the last one (0: it ended), [n + 1]."""
    return np.array([*(values[history] for history in path.histories), 0.0])


def kl_divergence(world: World, logits: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """KL(pi, ref) over whole rollouts, in nats, differentiable in both."""
    log_probs = path_log_probs(world, logits)
    return (log_probs.exp() * (log_probs - path_log_probs(world, reference))).sum()


def optimal_path_probs(world: World, reference: torch.Tensor, beta: float) -> FloatArray:
    """The maximiser of E[R] - beta KL(pi, ref) over whole rollouts: ref(path) exp(R(path) / beta) / Z. [P]."""
    tilted = path_log_probs(world, reference.detach()) + path_returns(world) / beta
    return np.asarray(torch.softmax(tilted, dim=0))


def soft_bellman_policy(world: World, reference: torch.Tensor, beta: float) -> dict[History, FloatArray]:
    """The same maximiser, token by token: pi(a | h) = ref(a | h) exp((r + V(h, a) - V(h)) / beta). [V] per history.

    V(h) = beta log sum_a ref(a | h) exp((r(h, a) + V(h, a)) / beta), 0 once a rollout ended (arXiv 2404.12358, 4.2).
    """
    log_reference = np.asarray(torch.log_softmax(reference.detach(), dim=-1))
    policy: dict[History, FloatArray] = {}

    def value(history: History) -> float:
        worth = np.empty(world.vocabulary)
        for token in range(world.vocabulary):
            reply = world.respond((*history, token))
            after = reply.score if reply.ending else value((*history, token, *reply.observation))
            worth[token] = reply.reward + after
        scores = log_reference[world.states[world.state(history)]] + worth / beta
        policy[history] = np.exp(scores - np.logaddexp.reduce(scores))
        return beta * float(np.logaddexp.reduce(scores))

    value(())
    return policy
