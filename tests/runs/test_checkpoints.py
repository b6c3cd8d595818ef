"""Checkpoints are whole, or skipped and said so."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import torch

from laurel.errors import RunError
from laurel.runs import checkpoints

STATE = {"cursor": 12, "random": [1, 2**63, [0.1, "x"]], "none": None}


def groups(seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    weights = torch.randn(4, 6, generator=draw)
    return {
        "policy": {"weights": weights, "transposed": weights.T.clone().T, "count": torch.tensor(3)},
        "optimiser": {"moment": torch.randn(5, generator=draw).to(torch.bfloat16), "mask": torch.tensor([True])},
        "buffers": {},
    }


def test_what_is_saved_comes_back_bit_by_bit(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 5, groups(), STATE)
    place, notes = checkpoints.newest_whole(tmp_path)
    assert place == tmp_path / "step-000005" and notes == ()
    found = checkpoints.load(place)
    assert found.step == 5 and found.state == STATE
    assert sorted(found.tensors) == ["buffers", "optimiser", "policy"]
    for name, members in groups().items():
        assert sorted(found.tensors[name]) == sorted(members)
        for key, tensor in members.items():
            assert found.tensors[name][key].dtype == tensor.dtype
            assert torch.equal(found.tensors[name][key], tensor)


def test_the_manifest_holds_the_hash_of_every_file(tmp_path: Path) -> None:
    place = checkpoints.save(tmp_path, 5, groups(), STATE)
    names = {"policy.safetensors", "optimiser.safetensors", "buffers.safetensors", "state.json"}
    assert {file.name for file in place.iterdir()} == names | {"manifest.json"}
    assert checkpoints.hashes(place).keys() == names
    assert checkpoints.hashes(checkpoints.save(tmp_path / "twin", 5, groups(), STATE)) == checkpoints.hashes(place)


def test_older_ones_are_removed_and_at_least_two_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30, 1_000_000):
        checkpoints.save(tmp_path, step, groups(step), STATE)
    assert checkpoints.steps(tmp_path) == [30, 1_000_000]
    checkpoints.save(tmp_path, 1_000_001, groups(), STATE, keep=3)
    assert checkpoints.steps(tmp_path) == [30, 1_000_000, 1_000_001]
    assert sorted(os.listdir(tmp_path)) == ["step-000030", "step-1000000", "step-1000001"]
    with pytest.raises(RunError, match="at least 2"):
        checkpoints.save(tmp_path, 1_000_002, groups(), STATE, keep=1)


def damage_byte(place: Path) -> None:
    file = place / "policy.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


def damage_length(place: Path) -> None:
    os.truncate(place / "optimiser.safetensors", 10)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_byte, "policy.safetensors does not have its hash"),
        (damage_length, "optimiser.safetensors has 10 bytes instead of"),
        (lambda place: (place / "state.json").unlink(), "state.json is missing"),
        (lambda place: (place / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda place: (place / "manifest.json").write_text('{"format": 1'), "manifest.json cannot be read"),
        (lambda place: (place / "manifest.json").write_text("[]"), "manifest.json cannot be read"),
        (lambda place: (place / "manifest.json").write_text('{"format": 9, "files": {}}'), "its format is 9"),
    ],
)
def test_a_torn_one_is_skipped_and_said_so(tmp_path: Path, damage, says: str) -> None:
    checkpoints.save(tmp_path, 1, groups(1), STATE)
    damage(checkpoints.save(tmp_path, 2, groups(2), STATE))
    place, (note,) = checkpoints.newest_whole(tmp_path)
    assert place == tmp_path / "step-000001"
    assert "step 2 skipped" in note and says in note


def test_all_damaged_is_an_error_and_none_at_all_is_not(tmp_path: Path) -> None:
    assert checkpoints.newest_whole(tmp_path) == (None, ())
    assert checkpoints.newest_whole(tmp_path / "absent") == (None, ())
    for step in (1, 2):
        damage_byte(checkpoints.save(tmp_path, step, groups(), STATE))
    with pytest.raises(RunError, match=r"step 2 skipped.*step 1 skipped"):
        checkpoints.newest_whole(tmp_path)


def test_a_damaged_one_of_the_same_step_makes_way(tmp_path: Path) -> None:
    damage_byte(checkpoints.save(tmp_path, 2, groups(), STATE))
    place = checkpoints.save(tmp_path, 2, groups(), STATE)
    assert checkpoints.damage_of(place) is None
    assert (tmp_path / "step-000002.damaged").is_dir()
    assert checkpoints.steps(tmp_path) == [2]


def test_saving_a_step_again_is_nothing_if_equal_and_an_error_if_not(tmp_path: Path) -> None:
    place = checkpoints.save(tmp_path, 2, groups(), STATE)
    before = (place / "manifest.json").stat()[stat.ST_INO]
    assert checkpoints.save(tmp_path, 2, groups(), STATE) == place
    assert (place / "manifest.json").stat()[stat.ST_INO] == before
    with pytest.raises(RunError, match="other content"):
        checkpoints.save(tmp_path, 2, groups(1), STATE)
    assert os.listdir(tmp_path) == ["step-000002"]
    assert checkpoints.damage_of(place) is None


def test_tidying_removes_remains_and_sets_damaged_ones_aside(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoints.save(tmp_path, step, groups(), STATE)
    (tmp_path / ".step-000003.writing").mkdir()
    (tmp_path / ".step-000000.removed").mkdir()
    checkpoints.tidy(tmp_path, newest_whole=1)
    assert sorted(os.listdir(tmp_path)) == ["step-000001", "step-000002.damaged"]
    checkpoints.tidy(tmp_path / "absent", newest_whole=None)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"a": {1: 2}}, "strings as keys"),
        ({"a": (1, 2)}, "lists instead of tuples"),
        ({"a": float("nan")}, "no JSON"),
        ({"a": torch.zeros(1)}, "no JSON"),
    ],
)
def test_a_state_that_would_not_come_back_is_refused(tmp_path: Path, state: dict[str, object], says: str) -> None:
    with pytest.raises(RunError, match=says):
        checkpoints.save(tmp_path, 1, groups(), state)
    assert os.listdir(tmp_path) == []


def test_groups_and_tensors_that_cannot_be_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"'\.\./policy'"):
        checkpoints.save(tmp_path, 1, {"../policy": {}}, {})
    tied = torch.zeros(3)
    with pytest.raises(RunError, match="Group policy"):
        checkpoints.save(tmp_path, 1, {"policy": {"a": tied, "b": tied}}, {})
    assert os.listdir(tmp_path) == []


def test_the_files_are_json_and_safetensors_only(tmp_path: Path) -> None:
    place = checkpoints.save(tmp_path, 1, groups(), STATE)
    assert json.loads((place / "state.json").read_text()) == STATE
    assert {file.suffix for file in place.iterdir()} == {".json", ".safetensors"}
