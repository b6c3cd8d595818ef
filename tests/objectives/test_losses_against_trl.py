"""Every preference loss against TRL's own code on random log-probabilities: values and gradients, if TRL is installed.

TRL computes its losses inside its trainers. Their methods are called on a stand-in that holds the settings they read,
with a model that answers with given log-probabilities; no formula is repeated here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from laurel.objectives import (
    bradley_terry_loss,
    dpo_loss,
    ipo_loss,
    kto_loss,
    mismatched_divergence,
    odds_ratio_loss,
    robust_dpo_loss,
    simpo_loss,
)

trl = pytest.importorskip("trl", reason="TRL is not installed: its losses are not compared with")

PAIRS, TOKENS, PROMPT = 6, 12, 3
SEEDS = range(5)


class Alone:
    """An accelerator of one process."""

    device = torch.device("cpu")

    def gather(self, values: Any) -> Any:
        return values

    gather_for_metrics = gather
    unwrap_model = gather


class Answers:
    """A model whose log-probabilities are given."""

    training = True
    config = SimpleNamespace(is_encoder_decoder=False)

    def __init__(self, *log_probs: torch.Tensor) -> None:
        self.log_probs = list(log_probs)

    def __call__(self, **_: Any) -> Any:
        told = self.log_probs.pop(0) if len(self.log_probs) > 1 else self.log_probs[0]
        silent = torch.zeros_like(told.detach())
        return SimpleNamespace(log_probs=told, entropy=silent, mean_logits=silent, is_top1=silent.bool(), loss=None)


def drawn(seed: int, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities of the policy (with gradient) and the reference [rows, TOKENS - 1], and the answers' mask."""
    torch.manual_seed(seed)
    mask = torch.zeros(rows, TOKENS, dtype=torch.long)
    for row, length in enumerate(torch.randint(1, TOKENS - PROMPT, (rows,)).tolist()):
        mask[row, PROMPT : PROMPT + length] = 1
    policy, reference = (-3 * torch.rand(rows, TOKENS - 1, dtype=torch.float64) * mask[:, 1:] for _ in range(2))
    return policy.requires_grad_(), reference, mask


def stand_in(model: Answers, reference: Answers, **settings: Any) -> Any:
    return SimpleNamespace(
        model=model, ref_model=reference, accelerator=Alone(), args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=False, use_weighting=False, loss_weights=[1.0],
        f_divergence_type="reverse_kl", _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0, _tp_size=1, **settings,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the trainers do around the loss with a real model."""
    from trl.trainer import dpo_trainer, kto_trainer

    for module in (dpo_trainer, kto_trainer):
        monkeypatch.setattr(module, "is_peft_model", lambda model: False)
        monkeypatch.setattr(module, "disable_gradient_checkpointing", lambda *_: nullcontext())


Ours = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

DPO: dict[str, tuple[dict[str, Any], Ours]] = {
    "plain": (
        {"loss_types": ["sigmoid"], "beta": 0.3},
        lambda c, r, n, m: dpo_loss(c, r, beta=0.3),
    ),
    "robust": (
        {"loss_types": ["robust"], "beta": 0.3, "label_smoothing": 0.2},
        lambda c, r, n, m: robust_dpo_loss(c, r, beta=0.3, label_smoothing=0.2),
    ),
    "length-normalised": (
        {"loss_types": ["sigmoid_norm"], "beta": 1.7},
        lambda c, r, n, m: dpo_loss(c / n, r / m, beta=1.7),
    ),
    "ipo": (
        {"loss_types": ["ipo"], "beta": 0.2},
        lambda c, r, n, m: ipo_loss(c / n, r / m, tau=0.2),
    ),
}


def same(ours: torch.Tensor, theirs: torch.Tensor, leaf: torch.Tensor) -> None:
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    (mine,) = torch.autograd.grad(ours, leaf, retain_graph=True)
    (other,) = torch.autograd.grad(theirs, leaf, retain_graph=True)
    assert torch.allclose(mine, other, atol=1e-6, rtol=0)
    assert bool((mine != 0).any())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", DPO)
def test_direct_preference_optimisation(name: str, seed: int) -> None:
    settings, loss = DPO[name]
    policy, reference, mask = drawn(seed, 2 * PAIRS)
    trainer = stand_in(Answers(policy), Answers(reference), **{"label_smoothing": 0.0, **settings})
    inputs = {"input_ids": torch.ones_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask}
    theirs = trl.DPOTrainer._compute_loss(trainer, trainer.model, inputs, return_outputs=False)
    ratios, lengths = (policy - reference).sum(1), mask.sum(1).double()
    ours = loss(ratios[:PAIRS], ratios[PAIRS:], lengths[:PAIRS], lengths[PAIRS:]).mean()
    same(ours, theirs, policy)


@pytest.mark.parametrize("seed", SEEDS)
def test_kahneman_tversky(seed: int) -> None:
    policy, reference, mask = drawn(seed, 2 * PAIRS)
    other, other_reference, other_mask = drawn(seed + 100, 2 * PAIRS)
    # TRL calls each model for the answers to other prompts first.
    trainer = stand_in(
        Answers(other, policy), Answers(other_reference, reference), beta=0.3, loss_type="kto", calculate_KL=True,
        desirable_weight=1.3, undesirable_weight=0.7,
    )  # fmt: skip
    label = torch.arange(2 * PAIRS) % 3 == 0
    ids = torch.ones_like(mask)
    inputs = {
        "input_ids": ids, "attention_mask": ids, "completion_mask": mask, "label": label,
        "KL_input_ids": ids, "KL_attention_mask": ids, "KL_completion_mask": other_mask,
    }  # fmt: skip
    trainer._compute_kl_logps = lambda model, batch: trl.KTOTrainer._compute_kl_logps(trainer, model, batch)
    theirs = trl.KTOTrainer._compute_loss(trainer, trainer.model, inputs, return_outputs=False)
    z = mismatched_divergence((other - other_reference).sum(1))
    ratios = (policy - reference).sum(1)
    losses = kto_loss(ratios, label, z, beta=0.3, desirable_weight=1.3, undesirable_weight=0.7)
    same(losses.mean(), theirs, policy)


@pytest.mark.parametrize("seed", SEEDS)
def test_simple_preference_and_the_conservative_form(seed: int) -> None:
    cpo = pytest.importorskip("trl.experimental.cpo", reason="this TRL has no CPO trainer")
    policy, _, mask = drawn(seed, 2 * PAIRS)
    means = policy.sum(1) / mask.sum(1)
    stand = SimpleNamespace(accelerator=Alone(), alpha=0.0, beta=2.0, simpo_gamma=1.1, label_smoothing=0.0)
    for kind, smoothing, ours in (
        ("simpo", 0.0, simpo_loss(means[:PAIRS], means[PAIRS:], beta=2.0, margin=1.1)),
        ("sigmoid", 0.2, dpo_loss(means[:PAIRS], means[PAIRS:], beta=2.0, label_smoothing=0.2)),
    ):
        stand.loss_type, stand.label_smoothing = kind, smoothing
        theirs = cpo.CPOTrainer.cpo_loss(stand, means[:PAIRS], means[PAIRS:])[0]
        same(ours.mean(), theirs.mean(), policy)


@pytest.mark.parametrize("seed", SEEDS)
def test_odds_ratio(seed: int) -> None:
    orpo = pytest.importorskip("trl.experimental.orpo", reason="this TRL has no ORPO trainer")
    policy, _, mask = drawn(seed, 2 * PAIRS)
    means = policy.sum(1) / mask.sum(1)
    chosen, rejected = means[:PAIRS], means[PAIRS:]
    theirs = orpo.ORPOTrainer.odds_ratio_loss(SimpleNamespace(accelerator=Alone(), beta=0.4), chosen, rejected)[0]
    # TRL adds the likelihood of the whole chosen row elsewhere; this is the odds ratio alone, and in float32.
    same((odds_ratio_loss(chosen, rejected, weight=0.4) + chosen).mean(), -theirs.mean().double(), policy)
    assert math.isfinite(theirs.sum().item())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_reward_model(seed: int) -> None:
    torch.manual_seed(seed)
    rewards = torch.randn(2 * PAIRS, dtype=torch.float64, requires_grad=True)
    settings = SimpleNamespace(center_rewards_coefficient=None)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=Alone(), args=settings,
        _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0, _tp_size=1,
    )  # fmt: skip
    inputs = {"attention_mask": torch.ones(2 * PAIRS, TOKENS)}
    theirs = trl.RewardTrainer.compute_loss(trainer, lambda **_: SimpleNamespace(logits=rewards[:, None]), inputs)
    same(bradley_terry_loss(rewards[:PAIRS], rewards[PAIRS:]).mean(), theirs, rewards)
