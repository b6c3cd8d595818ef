"""A small policy of each family that the lean decoder computes, with grouped heads, biases and a window among them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from laurel.policy import Policy, tiny
from laurel.policy.load import assemble

_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
_CONFIGURATIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "mistral": (MistralConfig, {"sliding_window": 7}),
    "qwen2": (Qwen2Config, {}),
    "qwen3": (Qwen3Config, {"head_dim": 16}),
}
FAMILIES = sorted(_CONFIGURATIONS)


def llama_like(family: str) -> Policy:
    """Biases and norms start as constants, which would hide a mistake; here they are random too."""
    torch.manual_seed(0)
    tokenizer = tiny(hidden_size=32, layers=1).tokenizer
    kind, others = _CONFIGURATIONS[family]
    model = AutoModelForCausalLM.from_config(kind(vocab_size=len(tokenizer), **_SIZES, **others))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return assemble(family, model, tokenizer)
