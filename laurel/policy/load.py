"""Load a policy from a hub name or a directory, and refuse clearly what would be computed wrongly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from laurel.errors import PolicyError
from laurel.policy.attention import ATTENTION_NAME, register
from laurel.policy.policy import Policy


def load(
    name_or_directory: str | Path,
    *,
    device: str | torch.device = "auto",
    revision: str | None = None,
    allow_remote_code: bool = False,
) -> Policy:
    """A causal decoder with its tokenizer, checked against its stock computation.

    Weights are in float32 on the CPU and in bfloat16 on CUDA devices that compute in it. Dropout is off.

    Args:
        name_or_directory: a hub name ("Qwen/Qwen3-0.6B") or a directory.
        device: "auto" takes CUDA where there is one.
        revision: branch, tag or commit of a hub name.
        allow_remote_code: run model code from the hub; only together with a full commit hash as `revision`.

    Raises:
        PolicyError: when the directory is incomplete, the model is no causal decoder, or Laurel's packed computation
            differs from the stock one.
    """
    name = str(name_or_directory)
    if allow_remote_code and (revision is None or not re.fullmatch("[0-9a-f]{40}", revision)):
        raise PolicyError(
            f"{name}: remote code is only run from a pinned commit.",
            hint="pass revision= with the 40-digit commit hash that you have read.",
        )
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"revision": revision, "trust_remote_code": allow_remote_code}
    config = _configuration(name, options)
    place = _device(device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError) as error:
        raise PolicyError(f"{name} has no tokenizer that can be loaded: {error}", hint="copy it there.") from error
    register()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name, config=config, dtype=_dtype(place), attn_implementation=ATTENTION_NAME, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise PolicyError(f"{name}: the model cannot be loaded: {error}", hint="check the directory.") from error
    return assemble(name, model.to(place), tokenizer)


def assemble(name: str, model: Any, tokenizer: Any) -> Policy:
    """A policy from a model and a tokenizer in memory."""
    register()
    model.set_attn_implementation(ATTENTION_NAME)
    model.eval()
    config = model.config.get_text_config(decoder=True)
    return Policy(
        name, model, tokenizer, context_length=config.max_position_embeddings, end_ids=end_ids(model, tokenizer)
    )


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every id that ends an answer: those of the generation settings, of the model and of the tokenizer."""
    found: set[int] = set()
    config = model.config.get_text_config(decoder=True)
    for owner in (getattr(model, "generation_config", None), model.config, config, tokenizer):
        ids = getattr(owner, "eos_token_id", None)
        found.update([ids] if isinstance(ids, int) else ids or [])
    return frozenset(found)


def _configuration(name: str, options: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError) as error:
        raise PolicyError(
            f"{name}: no model configuration could be read: {error}",
            hint="give a hub name or a directory with config.json, model.safetensors and a tokenizer.",
        ) from error


def _device(device: str | torch.device) -> torch.device:
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32
