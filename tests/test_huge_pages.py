"""Large tensors lie in huge pages unless the user says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import laurel.policy, re, torch
tensor = torch.ones(1 << 25)  # 128 MB
address = tensor.data_ptr() + (1 << 26)
huge, inside = 0, False
for line in open("/proc/self/smaps"):
    bounds = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
    if bounds:
        inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
    elif inside and line.startswith("AnonHugePages:"):
        huge = int(line.split()[1])
print(huge)
"""


@pytest.mark.parametrize(("setting", "expected"), [(None, True), ("0", False)])
def test_large_tensors_lie_in_huge_pages(setting: str | None, expected: bool) -> None:
    enabled = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not enabled.exists() or "[madvise]" not in enabled.read_text():
        pytest.skip("this system does not leave it to programs which memory lies in huge pages")
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    if setting is not None:
        environment["THP_MEM_ALLOC_ENABLE"] = setting
    printed = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert (int(printed) > 100_000) == expected  # kB of 131,072
