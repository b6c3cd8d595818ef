"""Matrix products of ever new shapes do not make the process grow."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from laurel.policy import products

PROBE = """
import ctypes
import laurel, torch
from laurel.policy import products

class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]  # of mallinfo2(3); e and h: mapped, used

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Heap

def used() -> int:
    heap = libc.mallinfo2()
    return (heap.e + heap.h) >> 20

@torch.inference_mode()
def products_of(rows: range) -> None:
    weight = torch.ones(256, 128)
    prepared = products.PreparedWeight(weight)
    for count in rows:
        products.linear(torch.ones(count, 128), weight)
        prepared.linear(torch.ones(count, 128))

products_of(range(64, 200))
start = used()
products_of(range(200, 300))
print(used() - start)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc says how much memory is in use")
@pytest.mark.skipif(not products._HAS_AVX512, reason="oneDNN is not asked for products on this processor")
@pytest.mark.parametrize(("kept", "bounded"), [(None, True), ("1024", False)])
def test_memory_is_bounded_whatever_the_number_of_shapes(kept: str | None, bounded: bool) -> None:
    names = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    if kept is not None:
        environment |= dict.fromkeys(names, kept)
    command = [sys.executable, "-c", PROBE]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert (int(printed) < 10) == bounded  # MB; 30 and more without a bound
