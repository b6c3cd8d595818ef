"""One ratio per rollout: by hand, and against the sequence form of its paper."""

import pytest
import torch

from laurel.objectives import SequenceRatio, TokenBatch, sequence_log_ratio

ROLLOUT = torch.tensor([4, 4, 9, 4, 9])


def batch(advantages: list[float], seed: int = 0, distance: float = 0.5) -> TokenBatch:
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(5, dtype=torch.float64, generator=generator) - 0.5
    now = (old + distance * torch.randn(5, dtype=torch.float64, generator=generator)).requires_grad_()
    return TokenBatch(now, old, old, old, torch.tensor(advantages, dtype=torch.float64), ROLLOUT)


def test_the_value_is_the_geometric_mean_of_the_token_ratios():
    ratios = torch.tensor([2.0, 4.0, 0.5, 1.0, 2.0], dtype=torch.float64)
    log_ratio = sequence_log_ratio(ratios.log(), torch.zeros(5, dtype=torch.float64), ROLLOUT)
    # Rollout 4 has ratios 2, 4, 1: their geometric mean is 2. Rollout 9 has 1/2 and 2: 1.
    assert log_ratio.exp().tolist() == pytest.approx([2, 2, 1, 2, 1])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("distance", [0.01, 1.0])
def test_averaged_over_its_tokens_it_is_the_sequence_objective(seed, distance):
    given = batch([1.0, 1.0, -2.0, 1.0, -2.0], seed, distance)
    low, high = 0.2, 0.3
    loss = SequenceRatio(low, high)(given)[0]
    averaged = loss[ROLLOUT == 4].mean() + loss[ROLLOUT == 9].mean()
    (token_form,) = torch.autograd.grad(averaged, given.log_probs)

    written_out = torch.zeros((), dtype=torch.float64)
    for rollout, advantage in ((4, 1.0), (9, -2.0)):
        mine = rollout == ROLLOUT
        ratio = torch.exp((given.log_probs - given.old_log_probs)[mine].mean())
        written_out = written_out - torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)
    assert averaged.item() == pytest.approx(written_out.item(), abs=1e-12)
    (sequence_form,) = torch.autograd.grad(written_out, given.log_probs)
    torch.testing.assert_close(token_form, sequence_form, atol=1e-12, rtol=0)


def test_rollouts_are_clipped_as_a_whole():
    now = torch.log(torch.tensor([1.5, 1.5, 1.0, 1.5, 1.0], dtype=torch.float64)).requires_grad_()
    old = torch.zeros(5, dtype=torch.float64)
    given = TokenBatch(now, old, old, old, torch.ones(5, dtype=torch.float64), ROLLOUT)
    loss, seen = SequenceRatio(0.1, 0.1)(given)
    (gradient,) = torch.autograd.grad(loss.sum(), now)
    assert gradient.tolist() == [0, 0, -1, 0, -1]
    assert seen["ratio/clipped_high"].tolist() == [1, 1, 0, 1, 0]


def test_other_rollouts_do_not_matter():
    given = batch([1.0] * 5)
    whole = sequence_log_ratio(given.log_probs, given.old_log_probs, ROLLOUT)
    mine = ROLLOUT == 9
    alone = sequence_log_ratio(given.log_probs[mine], given.old_log_probs[mine], ROLLOUT[mine])
    torch.testing.assert_close(whole[mine], alone, atol=1e-15, rtol=0)
