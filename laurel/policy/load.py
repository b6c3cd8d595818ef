"""Load a policy from a hub name or a directory, and refuse clearly what would be computed wrongly."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from laurel.errors import PolicyError
from laurel.memory import enough_memory
from laurel.policy.attention import ATTENTION_NAME, register
from laurel.policy.fingerprint import fingerprint
from laurel.policy.hub import only_cached
from laurel.policy.lora import LoraSettings, add_adapter
from laurel.policy.parity import check_architecture, check_parity, usable_context
from laurel.policy.policy import Policy
from laurel.policy.quiet import quiet_transformers

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)
"""What transformers raises for files that are missing, torn or of another model."""

_NO_TOKENIZER = "save one there: AutoTokenizer.from_pretrained(base_model).save_pretrained(directory)."


def load(
    name_or_directory: str | Path,
    *,
    device: str | torch.device = "auto",
    lora: LoraSettings | None = None,
    revision: str | None = None,
    allow_remote_code: bool = False,
) -> Policy:
    """A causal decoder with its tokenizer, checked against its stock computation.

    Weights are float32 on the CPU and bfloat16 on CUDA devices that compute in it (the learner keeps float32 masters).
    Dropout is off.

    Args:
        name_or_directory: a hub name ("Qwen/Qwen3-0.6B") or a directory.
        device: "auto" takes CUDA where there is one.
        lora: train an adapter instead of the weights (extra `lora`).
        revision: branch, tag or commit of a hub name.
        allow_remote_code: run model code from the hub; only together with a full commit hash as `revision`.

    Raises:
        PolicyError: when the directory is incomplete, the model is no causal decoder, Laurel's packed computation
            differs from the stock one, or a hub name is neither at hand nor to be reached.
        MissingExtraError: for `lora` without peft.
    """
    name = str(name_or_directory)
    if allow_remote_code and (revision is None or not re.fullmatch("[0-9a-f]{40}", revision)):
        raise PolicyError(
            f"{name}: remote code is only run from a pinned commit.",
            hint="pass revision= with the 40-digit commit hash that you have read.",
        )
    options = {
        "revision": revision,
        "trust_remote_code": allow_remote_code,
        "local_files_only": only_cached(name, revision),
    }
    config = _configuration(name, options)
    check_architecture(name, config)
    tokenizer = _tokenizer(name, options)
    with enough_memory(f"loading {name}", "take a smaller model, or a device with more memory."):
        policy = assemble(name, _model(name, config, _device(device), options), tokenizer, lora=lora)
    policy.origin = {
        "name": "load",
        "name_or_directory": name,
        "lora": None if lora is None else asdict(lora),
        **({"revision": revision, "allow_remote_code": allow_remote_code} if revision else {}),
    }
    policy.frozen = None if lora is None else fingerprint(name, revision)
    return policy


def assemble(name: str, model: Any, tokenizer: Any, *, lora: LoraSettings | None = None) -> Policy:
    """A policy from a model and a tokenizer in memory, after the same checks as `load`."""
    register()
    check_architecture(name, model.config)
    model.set_attn_implementation(ATTENTION_NAME)
    model.eval()
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):  # what transformers makes of no files
        raise PolicyError(f"{name} has no tokenizer.", hint=_NO_TOKENIZER)
    context_length = usable_context(model.config, tokenizer)
    if context_length is None:
        raise PolicyError(f"{name}: neither model nor tokenizer says how long its context is.", hint="add it there.")
    policy = Policy(name, model, tokenizer, context_length=context_length, end_ids=end_ids(model, tokenizer))
    if len(tokenizer) > policy.vocabulary_size:
        raise PolicyError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens, the model {policy.vocabulary_size}.",
            hint="resize the model's embeddings or use its own tokenizer.",
        )
    check_parity(policy)
    if lora is not None:
        add_adapter(model, lora)
    return policy


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
    except _UNREADABLE as error:
        raise PolicyError(
            f"{name}: no model configuration could be read: {_first_line(error)}",
            hint="give a hub name, or a directory with config.json, model.safetensors and a tokenizer.",
        ) from error


def _tokenizer(name: str, options: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, **options)
    except _UNREADABLE as error:
        raise PolicyError(f"{name}: no tokenizer could be loaded: {_first_line(error)}", hint=_NO_TOKENIZER) from error


def _model(name: str, config: Any, device: torch.device, options: dict[str, Any]) -> Any:
    from transformers import AutoModelForCausalLM

    register()
    try:
        with quiet_transformers():
            model, report = AutoModelForCausalLM.from_pretrained(
                name,
                config=config,
                dtype=_dtype(device),
                attn_implementation=ATTENTION_NAME,
                output_loading_info=True,
                **options,
            )
    except _UNREADABLE as error:
        raise PolicyError(
            f"{name}: the model cannot be loaded as a causal language model: {_first_line(error)}",
            hint="give a directory or hub name of a decoder with config.json and model.safetensors.",
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise PolicyError(
            f"{name}: the weights lack {missing[0]} (and {len(missing) - 1} more), which would start at random.",
            hint="give a model with its language-model head, saved whole.",
        )
    return model.to(device)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _device(device: str | torch.device) -> torch.device:
    if device != "auto":
        try:
            return torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
            raise PolicyError(
                f"The device {str(device)!r} cannot be used here: {_first_line(error)}", hint="leave it to 'auto'."
            ) from error
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32
