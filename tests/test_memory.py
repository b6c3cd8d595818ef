"""An allocation that really fails is named; every other error passes."""

from __future__ import annotations

import pytest
import torch

from laurel.errors import LearnerError
from laurel.memory import enough_memory


def test_a_full_cpu_and_a_full_accelerator_are_named() -> None:
    with pytest.raises(LearnerError) as caught, enough_memory("sampling in step 3", "make it smaller."):
        torch.empty(1 << 60, dtype=torch.uint8)
    assert "Memory ran out while sampling in step 3" in caught.value.message
    assert caught.value.hint == "make it smaller."
    with pytest.raises(LearnerError, match="CUDA out of memory"), enough_memory("learning", "make it smaller."):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.\nmore")
    with pytest.raises(LearnerError, match="MemoryError"), enough_memory("learning", "make it smaller."):
        raise MemoryError


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"), enough_memory("learning", "make it smaller."):
        torch.zeros(3).view(2)
