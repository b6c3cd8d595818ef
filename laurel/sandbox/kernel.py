"""Calls of the Linux kernel that Python has no function for, by ctypes: errors are `OSError`s that name the call."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Landlock's numbers, the same on every architecture."""

CAPSET = 126
_NO_NEW_PRIVILEGES, _SECCOMP, _DIE_WITH_PARENT, _KILLED = 38, 22, 1, 9
_FILTER = 2
_CAPABILITIES_VERSION = 0x20080522

USER, PROCESSES, NETWORK, MESSAGES, HOST = 0x10000000, 0x20000000, 0x40000000, 0x08000000, 0x04000000
NAMESPACES = USER | PROCESSES | NETWORK | MESSAGES | HOST


def call(number: int, *arguments: object, name: str) -> int:
    """One system call by its number."""
    return _checked(_libc().syscall(ctypes.c_long(number), *arguments), name)


def control(option: int, *arguments: object, name: str) -> int:
    """One `prctl`."""
    return _checked(_libc().prctl(option, *arguments, *([ctypes.c_ulong(0)] * (4 - len(arguments)))), name)


def no_new_privileges() -> None:
    """From here on no program that is started can gain rights; a precondition of the filters."""
    control(_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), name="no_new_privs")


def die_with_parent() -> None:
    """The kernel kills this process when its parent ends."""
    control(_DIE_WITH_PARENT, ctypes.c_ulong(_KILLED), name="parent-death signal")


def drop_capabilities() -> None:
    """What root may do beyond others, given up."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    call(CAPSET, header, (ctypes.c_uint32 * 6)(), name="capset")


def install_filter(instructions: bytes) -> None:
    """A seccomp filter for this process, for good.

    Args:
        instructions: 8 bytes each, as `struct sock_filter`.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    program = Program(len(instructions) // 8, ctypes.addressof(code))
    control(_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.byref(program), name="seccomp filter")


def new_namespaces() -> bool:
    """Leave the machine's network, processes and messages behind. False where the kernel does not let us."""
    return bool(_libc().unshare(NAMESPACES) == 0)


def landlock_version() -> int:
    """Which Landlock there is; 0 without one."""
    return max(0, int(_libc().syscall(ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


def has_seccomp_filters() -> bool:
    """Whether the kernel takes filters: given none at all, it complains about the address and nothing else."""
    ctypes.set_errno(0)
    _libc().prctl(_SECCOMP, ctypes.c_ulong(_FILTER), None, ctypes.c_ulong(0), ctypes.c_ulong(0))
    return ctypes.get_errno() == 14  # EFAULT


def missing() -> str | None:
    """What this machine lacks for a sandbox; None if there is all."""
    if sys.platform != "linux":
        return f"this system is {platform.system()}, and the sandbox is made of parts of the Linux kernel"
    if platform.machine() != "x86_64":
        return f"this processor is {platform.machine()}, and the sandbox knows the system calls of x86_64 alone"
    if not has_seccomp_filters():
        return "the kernel offers no seccomp filters"
    if landlock_version() < 1:
        return "the kernel offers no Landlock (it is there from Linux 5.13, if it is named in /sys/kernel/security/lsm)"
    return None


_LIBRARY: list[ctypes.CDLL] = []


def _libc() -> ctypes.CDLL:
    if not _LIBRARY:
        _LIBRARY.append(ctypes.CDLL(None, use_errno=True))
    return _LIBRARY[0]


def _checked(result: int, name: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
