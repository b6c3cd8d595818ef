"""The regularised problem, exactly: its gradient, and the credit of experience that a penalty was taken off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from laurel.credit import Credit, CreditRule
from laurel.objectives import KLReward
from laurel.theory.exact import expected_return, kl_divergence
from laurel.theory.states import token_histories
from laurel.theory.world import World
from laurel.tree import FloatArray, Tree


def regularised_gradient(world: World, logits: torch.Tensor, reference: torch.Tensor, beta: float) -> FloatArray:
    """Gradient of E[R] - beta KL(pi, ref) over whole rollouts with respect to the logits, [S, V]."""
    table = logits.detach().clone().requires_grad_()
    objective = expected_return(world, table) - beta * kl_divergence(world, table, reference.detach())
    (gradient,) = torch.autograd.grad(objective, table)
    return np.asarray(gradient)


def token_divergences(
    world: World, tree: Tree, logits: torch.Tensor, reference: torch.Tensor, *, exact: bool = False
) -> FloatArray:
    """log pi - log ref of every policy token of a tree, or the KL of the distributions at its state, [T]; else NaN."""
    now, other = (torch.log_softmax(table.detach(), dim=-1).numpy() for table in (logits, reference))
    by_state = (np.exp(now) * (now - other)).sum(-1)
    found = np.full(len(tree.flat), np.nan)
    histories = token_histories(tree)
    for place in np.flatnonzero(tree.flat.policy).tolist():
        state = world.states[world.state(histories[place])]
        token = int(tree.flat.tokens[place])
        found[place] = by_state[state] if exact else now[state, token] - other[state, token]
    return found


def penalised(
    credit: CreditRule, penalty: KLReward, world: World, logits: torch.Tensor, reference: torch.Tensor
) -> CreditRule:
    """The same credit, given to trees whose tokens have paid for being far from the reference."""

    def shaped(trees: Sequence[Tree]) -> list[Credit]:
        exact = penalty.needs_divergence
        paid = [penalty.applied(tree, token_divergences(world, tree, logits, reference, exact=exact)) for tree in trees]
        return credit(paid)

    return shaped
