"""C7: clipping takes the incentive to move on away, not the move itself. Full-batch epochs on one batch, exactly."""

import math

import pytest
import torch

from laurel.credit import LeaveOneOut
from laurel.objectives import ClippedRatio, TokenBatch
from laurel.theory import example_logits, example_world, group_tree, kl_divergence

WORLD = example_world()
DRAWN = (4, 1, 1, 1, 1, 5, 3)
"""How often each of the seven answers was drawn, by the policy at the start of the update."""


def optimise(epochs: int, *, kl_limit: float = math.inf) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient descent on the clipped loss of 16 fixed rollouts; ends when the mean of `ratio/kl_old` passes the limit.

    Returns the token ratios [N] and the exact KL(old, now) over whole rollouts.
    """
    old = 0.6 * example_logits(WORLD)
    paths = [path for path, times in zip(WORLD.paths, DRAWN, strict=True) for _ in range(times)]
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
    """How far is a matter of the data and of the learning rate; in 20 other data sets: `studies/trust_region.py`."""
    ratios, kl = optimise(2000)
    assert ratios.min().item() == pytest.approx(0.073, abs=0.005)
    assert ratios.max().item() == pytest.approx(2.04, abs=0.03)
    assert kl.item() == pytest.approx(0.194, abs=0.005)


@pytest.mark.parametrize(("limit", "ratio"), [(0.005, 1.18), (0.02, 1.38)])
def test_stopping_on_the_measured_kl_holds_it(limit, ratio):
    """An answer has 29/16 tokens in the mean, so the KL of answers is that many times the KL of tokens."""
    ratios, kl = optimise(2000, kl_limit=limit)
    assert kl.item() == pytest.approx(limit * 29 / 16, rel=0.2)
    assert ratios.log().abs().max() < math.log(ratio)
