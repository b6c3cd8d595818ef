"""The check at load finds what would be computed differently from the stock model."""

from __future__ import annotations

import pytest
import torch

from laurel.errors import PolicyError
from laurel.policy import Policy
from laurel.policy.parity import check_parity


def test_every_architecture_agrees_closely(policy: Policy) -> None:
    assert check_parity(policy) < 1e-5


def test_a_head_that_is_unknown_is_refused(qwen: Policy) -> None:
    stock = qwen.model.forward

    def doubled(**arguments: object) -> object:
        result = stock(**arguments)
        result.logits = result.logits * 2
        return result

    qwen.model.forward = doubled
    with pytest.raises(PolicyError, match=r"Qwen3ForCausalLM.*differ by up to"):
        check_parity(qwen)


def test_attention_that_differs_is_refused(qwen: Policy) -> None:
    for layer in qwen.model.model.layers:
        layer.self_attn.register_forward_pre_hook(_scale_under_laurel, with_kwargs=True)
    with pytest.raises(PolicyError, match="differently from single rows"):
        check_parity(qwen)


def _scale_under_laurel(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:  # type: ignore[type-arg]
    module.scaling = 0.1 if module.config._attn_implementation == "laurel" else 8**-0.5  # type: ignore[union-attr, assignment]


def test_a_layer_that_keeps_its_window_to_itself_is_refused(qwen: Policy) -> None:
    """The stock mask would cut the path there, and no small tree would show it."""
    qwen.model.config.layer_types = ["full_attention", "sliding_attention"]
    qwen.model.config.sliding_window = 50
    qwen.model.model.has_sliding_layers = True
    with pytest.raises(PolicyError, match="layer 1 of Qwen3ForCausalLM should have the window 50"):
        check_parity(qwen)
