"""The policy from scratch: the same seed gives the same one, and it can be saved and loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from laurel.errors import PolicyError
from laurel.policy import load, tiny
from laurel.policy.tiny import PRINTABLE


def test_the_seed_decides_the_weights_and_touches_no_other_draw() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two, other = tiny(), tiny(), tiny(seed=1)
    assert torch.equal(before, torch.get_rng_state())
    for name, tensor in one.tensors().items():
        assert torch.equal(tensor, two.tensors()[name])
    assert any(not torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())


def test_the_initial_scale_is_that_of_every_matrix_and_the_usual_one_unless_said() -> None:
    small, large = tiny(), tiny(initial_scale=0.1)
    for name, tensor in small.tensors().items():
        if tensor.dim() == 2:
            assert abs(float(tensor.std()) / 0.02 - 1) < 0.1
            torch.testing.assert_close(large.tensors()[name], 5 * tensor)
        else:
            assert torch.equal(large.tensors()[name], tensor)  # what normalises starts at 1
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(PolicyError, match="initial_scale must be positive"):
            tiny(initial_scale=scale)


def test_it_reads_and_writes_every_printable_character(tmp_path: Path) -> None:
    policy = tiny(context_length=200)
    ids = policy.encode_prompt(PRINTABLE)
    assert len(ids) == len(PRINTABLE) == policy.vocabulary_size - 2
    assert policy.decode(ids) == PRINTABLE
    assert policy.end_ids == {1}
    policy.export(tmp_path)
    loaded = load(tmp_path, device="cpu")
    assert loaded.decode(loaded.encode_prompt(PRINTABLE)) == PRINTABLE
    assert loaded.context_length == 200
    for name, tensor in policy.tensors().items():
        assert torch.equal(tensor, loaded.tensors()[name])


def test_shapes_that_do_not_divide() -> None:
    with pytest.raises(PolicyError, match="each character once"):
        tiny(alphabet="aa")
    with pytest.raises(PolicyError, match="multiple"):
        tiny(hidden_size=60, heads=8)
