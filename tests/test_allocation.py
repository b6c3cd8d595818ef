"""Freed memory stays with the process once it is told to, and using it again and again does not make it grow."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROBE = """
import torch
from laurel.allocation import keep_freed_memory

def resident() -> int:
    return int(open("/proc/self/statm").read().split()[1]) // 256

def used_and_freed() -> int:
    blocks = [torch.ones(size << 18) for size in (16, 9, 20, 12, 31, 5) for _ in range(2)]  # 186 MB
    peak = resident()
    del blocks
    return peak - resident()

told = keep_freed_memory()
for _ in range(100):
    used_and_freed()
given_back = used_and_freed()
start = resident()
for _ in range(30):
    used_and_freed()
print(told, given_back, resident() - start)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_the_process_keeps_what_it_frees_and_does_not_grow() -> None:
    told, given_back, grown = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
    ).stdout.split()
    assert told == "True"
    assert int(given_back) < 20  # MB of 186, where all would go back
    assert int(grown) < 186  # of 30 more uses together
