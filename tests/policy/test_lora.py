"""Adapters by peft: only they train, they start as the base model, and exports are merged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_models import random_tree, stock_log_probs
from transformers import AutoModelForCausalLM

from laurel.errors import ConfigurationError, PolicyError
from laurel.policy import LoraSettings, Policy, load, pack

pytest.importorskip("peft", reason="the extra `lora` is not installed")

Directories = Callable[[str], Path]
TREE = random_tree(3)
PACKED = pack([TREE], [TREE.flat.policy])


def adapted(directories: Directories, **settings: int) -> Policy:
    return load(directories("qwen3-tied"), device="cpu", lora=LoraSettings(rank=2, **settings))


def move(policy: Policy) -> None:
    with torch.no_grad():
        for parameter in policy.trainable_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)


def test_only_the_adapter_trains_and_it_starts_as_the_base(directories: Directories, qwen: Policy) -> None:
    policy = adapted(directories)
    assert all("lora_" in name for name in policy.trainable_parameters())
    base = qwen.token_scores(PACKED).log_probs
    torch.testing.assert_close(policy.token_scores(PACKED).log_probs, base, rtol=0, atol=1e-6)
    policy.token_scores(PACKED).log_probs.sum().backward()
    assert all(parameter.grad is not None for parameter in policy.trainable_parameters().values())


def test_the_same_seed_gives_the_same_adapter(directories: Directories) -> None:
    one, two, other = adapted(directories), adapted(directories), adapted(directories, seed=1)
    name = next(name for name in one.tensors() if "lora_A" in name)
    assert torch.equal(one.tensors()[name], two.tensors()[name])
    assert not torch.equal(one.tensors()[name], other.tensors()[name])


def test_a_snapshot_keeps_a_trained_adapter(directories: Directories) -> None:
    """Taken after training, the reference is the trained policy, not the base model; the base weights are shared."""
    policy = adapted(directories)
    move(policy)
    reference = policy.snapshot("trained")
    start = policy.token_scores(PACKED).log_probs
    assert torch.equal(start, reference.token_scores(PACKED).log_probs)
    assert reference.tensors().keys() == policy.tensors().keys()
    move(policy)
    assert not torch.equal(start, policy.token_scores(PACKED).log_probs)
    assert torch.equal(start, reference.token_scores(PACKED).log_probs)


def test_an_export_is_merged(directories: Directories, tmp_path: Path) -> None:
    policy = adapted(directories)
    move(policy)
    before = policy.token_scores(PACKED).log_probs
    policy.export(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert not any("lora" in name for name, _ in model.named_parameters())
    with torch.no_grad():
        merged, _ = stock_log_probs(model, TREE, TREE.flat.policy)
    torch.testing.assert_close(merged, before.detach(), atol=1e-5, rtol=1e-5)
    assert torch.equal(before, policy.token_scores(PACKED).log_probs)  # the live policy keeps its adapter


def test_settings_that_do_not_fit(directories: Directories) -> None:
    with pytest.raises(ConfigurationError, match="rank"):
        LoraSettings(rank=0)
    with pytest.raises(PolicyError, match="does not fit"):
        load(directories("qwen3-tied"), device="cpu", lora=LoraSettings(targets=("nothing",)))
    with pytest.raises(PolicyError, match="output head"):
        load(directories("qwen3-untied"), device="cpu", lora=LoraSettings(targets=("lm_head",)))
