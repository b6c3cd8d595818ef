"""Keep the memory that one part of a training step frees for the next one.

A step on the CPU allocates and frees the same hundreds of megabytes again and again. glibc gives what is free at the
end of its heap back to the system, which clears every page anew when the next part asks. Told not to,
the process stays at the peak that it reaches in any case.
"""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)
_NEVER = (1 << 31) - 1
# What glibc itself goes up to as a program frees large blocks. Larger ones still come from the system and go back to
# it: kept in the heap, a block is not found again when a small one has been put in front of it.
_LARGEST_KEPT = 1 << 25


def keep_freed_memory() -> bool:
    """From now on this process keeps freed memory for itself; whether it could be told so (only glibc can)."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
