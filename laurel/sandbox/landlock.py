"""What a process may open, by Landlock: nothing but what is named, and nothing more for the rest of its life.

Facts: the kernel's userspace-api/landlock.rst and linux/landlock.h. Rights that a kernel does not know yet are left
out; what they would govern is refused by the filter of `laurel.sandbox.seccomp` as well.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable

from laurel.sandbox import kernel

_WRITE_FILE, _READ_FILE, _READ_DIRECTORY = 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_FILE, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14

LIST = _READ_DIRECTORY
READ = _READ_FILE | LIST
WRITE = READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_FILE | _TRUNCATE
"""No folders, links, sockets or devices: what was written is a flat list of files that is safe to delete."""

_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE
_KNOWN = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_PATH_BENEATH = 1
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 3
_TCP = 3


def restrict(reads: Iterable[str], lists: Iterable[str], writes: Iterable[str]) -> None:
    """From here on this process opens what lies below `reads` for reading, below `writes` for both, and nothing else.
    Of folders below `lists` it sees what is in them.

    Paths that do not exist are passed over. `kernel.no_new_privileges` has to come first.

    Raises:
        OSError: if the kernel refuses.
    """
    version = kernel.landlock_version()
    known = _KNOWN[min(version, max(_KNOWN))]
    attributes = [known]
    if version >= 4:
        attributes.append(_TCP)
    if version >= 6:
        attributes.append(_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS)
    given = (ctypes.c_uint64 * len(attributes))(*attributes)
    size = ctypes.c_size_t(ctypes.sizeof(given))
    rules = kernel.call(kernel.CREATE_RULESET, given, size, ctypes.c_uint32(0), name="landlock_create_ruleset")
    try:
        for paths, rights in ((reads, READ), (lists, LIST), (writes, WRITE)):
            for path in paths:
                _allow(rules, path, rights & known)
        kernel.call(kernel.RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0), name="landlock_restrict_self")
    finally:
        os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_FILES
        rule = rights.to_bytes(8, "little") + place.to_bytes(4, "little")  # struct landlock_path_beneath_attr, packed
        kernel.call(
            kernel.ADD_RULE,
            ctypes.c_int(rules),
            ctypes.c_int(_PATH_BENEATH),
            ctypes.create_string_buffer(rule, len(rule)),
            ctypes.c_uint32(0),
            name=f"landlock_add_rule for {path}",
        )
    finally:
        os.close(place)
