"""What cannot be loaded, or would be computed wrongly, is refused by name; the rest says what it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from small_models import SHAPE, VOCABULARY, write_model

from laurel.errors import PolicyError
from laurel.policy import Policy, load

Directories = Callable[[str], Path]


def test_a_loaded_policy_says_what_it_is(qwen: Policy, directories: Directories) -> None:
    assert qwen.name == str(directories("qwen3-tied"))
    assert (qwen.device.type, qwen.dtype, qwen.context_length) == ("cpu", torch.float32, 64)
    assert qwen.vocabulary_size == len(VOCABULARY)
    assert qwen.key_value_width == 2 * 8
    assert not qwen.model.training


def test_all_end_ids_are_found(directories: Directories, tmp_path: Path) -> None:
    shutil.copytree(directories("qwen3-tied"), tmp_path / "model")
    settings = tmp_path / "model" / "generation_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "eos_token_id": [3, 5]}))
    assert load(tmp_path / "model", device="cpu").end_ids == {1, 3, 5}


def damaged(directories: Directories, target: Path, remove: str) -> Path:
    shutil.copytree(directories("qwen3-tied"), target)
    for path in target.glob(remove):
        path.unlink()
    return target


@pytest.mark.parametrize(
    ("remove", "message"),
    [("tokenizer*", "tokenizer"), ("config.json", "configuration"), ("*.safetensors", "cannot be loaded")],
)
def test_an_incomplete_directory(directories: Directories, tmp_path: Path, remove: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        load(damaged(directories, tmp_path / "model", remove), device="cpu")
    assert str(tmp_path) in str(caught.value) and caught.value.hint


def test_a_torn_weight_file(directories: Directories, tmp_path: Path) -> None:
    shutil.copytree(directories("qwen3-tied"), tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(PolicyError, match="cannot be loaded"):
        load(tmp_path / "model", device="cpu")


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="nowhere"):
        load(tmp_path / "nowhere", device="cpu")


def test_weights_that_would_start_at_random(directories: Directories, tmp_path: Path) -> None:
    shutil.copytree(directories("qwen3-tied"), tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "tie_word_embeddings": False}))
    with pytest.raises(PolicyError, match=r"lm_head\.weight"):
        load(tmp_path / "model", device="cpu")


def test_a_tokenizer_of_another_model(directories: Directories, tmp_path: Path) -> None:
    small = transformers.Qwen3Config(**{**SHAPE, "vocab_size": 20}, head_dim=8)
    with pytest.raises(PolicyError, match=f"{len(VOCABULARY)} tokens, the model 20"):
        load(write_model(tmp_path, small), device="cpu")


@pytest.mark.parametrize("revision", [None, "main", "abc123"])
def test_remote_code_needs_a_pinned_commit(revision: str | None) -> None:
    with pytest.raises(PolicyError, match="pinned commit"):
        load("someone/model", allow_remote_code=True, revision=revision)


ENCODER = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
HALF_ROTARY = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "encoder": (lambda: transformers.BertConfig(**ENCODER), r"Bert.*encoder"),
    "encoder-decoder": (lambda: transformers.T5Config(vocab_size=len(VOCABULARY), d_model=32), "encoder-decoder"),
    "sinks": (
        lambda: transformers.GptOssConfig(
            **SHAPE,
            head_dim=8,
            num_local_experts=2,
            num_experts_per_tok=1,
            sliding_window=8,
            rope_parameters=HALF_ROTARY,
        ),
        r"GptOss.*sinks",
    ),
    "recurrent": (
        lambda: transformers.MambaConfig(vocab_size=len(VOCABULARY), hidden_size=32, num_hidden_layers=2),
        "Mamba",
    ),
    "hybrid": (
        lambda: transformers.Qwen3NextConfig(
            **SHAPE, head_dim=8, layer_types=["linear_attention", "full_attention"], num_experts=2
        ),
        r"Qwen3Next.*linear_attention",
    ),
    "linear bias": (
        lambda: transformers.BloomConfig(
            vocab_size=len(VOCABULARY), hidden_size=32, n_layer=2, n_head=4, seq_length=64
        ),
        r"Bloom.*attention interface",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_unsupported_architectures_are_named(kind: str, tmp_path: Path) -> None:
    configuration, message = REFUSED[kind]
    config = configuration()
    model_class = transformers.AutoModelForSeq2SeqLM if kind == "encoder-decoder" else transformers.AutoModelForCausalLM
    with pytest.raises(PolicyError, match=message):
        load(write_model(tmp_path, config, model_class), device="cpu")


def test_rotary_embeddings_that_depend_on_the_longest_row_limit_the_context(tmp_path: Path) -> None:
    factors = [1.0] * 4
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": factors, "long_factor": [4.0] * 4}
    config = transformers.Phi3Config(
        **{**SHAPE, "num_key_value_heads": 4}, original_max_position_embeddings=24, rope_parameters=rope
    )
    assert load(write_model(tmp_path, config), device="cpu").context_length == 24


def test_a_hub_that_does_not_answer_is_said_at_once(tmp_path: Path) -> None:
    """In an interpreter of its own: where the hub is, is read when its client is imported."""
    code = "import laurel\ntry: laurel.policy.load('some/model')\nexcept laurel.LaurelError as error: print(error)"
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **nobody}
    )
    for phrase in ("some/model is no directory", "http://127.0.0.1:9 cannot be reached", "cache", "connection"):
        assert phrase in said.stdout, said
    assert "Retrying" not in said.stderr
