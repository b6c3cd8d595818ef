"""A fingerprint follows what a model computes: not how its files are cut, nor who wrote them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from laurel.errors import PolicyError
from laurel.policy.fingerprint import check_frozen, fingerprint

Directories = Callable[[str], Path]


@pytest.fixture
def model(directories: Directories, tmp_path: Path) -> Path:
    shutil.copytree(directories("qwen3-untied"), tmp_path / "model")
    return tmp_path / "model"


def test_shards_and_the_writer_change_nothing(model: Path, tmp_path: Path) -> None:
    before = fingerprint(str(model))
    assert before == fingerprint(str(model)) and len(before) == 64
    AutoModelForCausalLM.from_pretrained(model).save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    shutil.copy(model / "config.json", tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "transformers_version": "0", "_name_or_path": "x"}))
    assert before == fingerprint(str(model)) == fingerprint(str(tmp_path / "shards"))


def test_one_weight_or_one_setting_changes_it(model: Path) -> None:
    seen = {fingerprint(str(model))}
    changed = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        changed.lm_head.weight[0, 0] += 1e-6
    changed.save_pretrained(model)
    seen.add(fingerprint(str(model)))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    seen.add(fingerprint(str(model)))
    assert len(seen) == 3


def test_other_files_than_safetensors_are_read_whole(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    before = fingerprint(str(model))
    (model / "pytorch_model.bin").write_bytes((model / "pytorch_model.bin").read_bytes() + b"x")
    assert fingerprint(str(model)) != before
    (model / "pytorch_model.bin").unlink()
    with pytest.raises(PolicyError, match="no file with weights"):
        fingerprint(str(model))


def test_only_another_model_under_the_same_name_is_refused() -> None:
    old = {"name": "load", "name_or_directory": "base", "frozen": "a" * 64}
    with pytest.raises(
        PolicyError, match=r"The run r trained an adapter on the model in base, .* was aaaaaaaaaaaa\.\.\."
    ):
        check_frozen(old, {**old, "frozen": "b" * 64}, "The run r")
    check_frozen(old, old, "The run r")
    check_frozen({"name": "tiny"}, old, "The run r")
    # Another name is another setting: that is compared elsewhere, and named there.
    check_frozen(old, {**old, "name_or_directory": "other", "frozen": "b" * 64}, "The run r")
