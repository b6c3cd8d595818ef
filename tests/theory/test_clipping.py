"""Clipping removes the incentive to move on; it does not stop the move. Full-batch epochs on one batch, exactly."""

import math

import pytest
import torch

from laurel.credit import LeaveOneOut
from laurel.objectives import ClippedRatio, TokenBatch
from laurel.theory import example_logits, group_tree, kl_divergence, single_turn

WORLD = single_turn(
    vocabulary=3, horizon=2, score=lambda answer: float(answer in ((0, 1), (2, 2))) - 0.5 * (answer == (1, 0))
)


def optimise(epochs: int, *, kl_limit: float = math.inf) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient descent on the clipped loss of 24 fixed rollouts; ends when the mean of `ratio/kl_old` passes the limit.

    Returns the token ratios [N] and the exact KL(old, now) over whole rollouts.
    """
    old = 0.5 * example_logits(WORLD)
    drawn = torch.multinomial(torch.ones(9), 24, replacement=True, generator=torch.Generator().manual_seed(3))
    paths = [WORLD.paths[index] for index in drawn]
    (credit,) = LeaveOneOut()([group_tree(WORLD, tuple(paths))])
    states = torch.tensor([state for path in paths for state in path.states])
    tokens = torch.tensor([token for path in paths for token in path.tokens])
    before = torch.log_softmax(old, -1)[states, tokens]
    advantages = torch.tensor(credit.advantages[credit.mask])
    table = old.clone().requires_grad_()
    optimiser = torch.optim.Adam([table], lr=0.02)
    for _ in range(epochs):
        now = torch.log_softmax(table, -1)[states, tokens]
        loss, seen = ClippedRatio(0.2, 0.2)(TokenBatch(now, before, before, before, advantages, states))
        if seen["ratio/kl_old"].mean() > kl_limit:
            break
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
    with torch.no_grad():
        ratios = (torch.log_softmax(table, -1)[states, tokens] - before).exp()
    return ratios, kl_divergence(WORLD, old, table.detach())


def test_many_epochs_leave_the_clip_range_far_behind():
    ratios, kl = optimise(2000)
    assert ratios.min() < 0.65
    assert ratios.max() > 1.7
    assert kl > 0.1


@pytest.mark.parametrize("limit", [0.005, 0.02])
def test_stopping_on_the_measured_kl_holds_it(limit):
    ratios, kl = optimise(2000, kl_limit=limit)
    assert 0.5 * limit < kl.item() < 4 * limit  # two tokens per rollout, drawn rather than listed
    assert ratios.log().abs().max() < math.log(1.5)
