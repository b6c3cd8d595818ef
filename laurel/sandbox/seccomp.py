"""Which system calls a sandboxed process may make: a filter that refuses whatever is not named here.

Three answers. A call on a list below is made. One of `HOSTILE`, which no honest program of a task makes, kills the
process at once (SIGSYS): a refused call. Anything else is answered "operation not permitted", and the program goes on:
a program that calls `os.system("clear")` or opens a socket finds that it cannot, and is judged by what it does then.

Left out on purpose from what is allowed: starting programs or processes (execve, fork; a thread is fine), sockets other
than a pair of the process's own, changing times, owners and modes (Landlock does not govern those), locks, links,
working folders, shared memory and message queues, everything of the kernel's that is newer than this list.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

MEMORY = {
    "brk": 12,
    "madvise": 28,
    "membarrier": 324,
    "mmap": 9,
    "mprotect": 10,
    "mremap": 25,
    "msync": 26,
    "munmap": 11,
}
FILES = {
    "access": 21, "close": 3, "close_range": 436, "copy_file_range": 326, "dup": 32, "dup2": 33, "dup3": 292,
    "faccessat": 269, "faccessat2": 439, "fadvise64": 221, "fallocate": 285, "fdatasync": 75, "fstat": 5,
    "fstatfs": 138, "fsync": 74, "ftruncate": 77, "getcwd": 79, "getdents": 78, "getdents64": 217, "lseek": 8,
    "lstat": 6, "newfstatat": 262, "pipe": 22, "pipe2": 293, "pread64": 17, "preadv": 295, "preadv2": 327,
    "pwrite64": 18, "pwritev": 296, "pwritev2": 328, "read": 0, "readlink": 89, "readlinkat": 267, "readv": 19,
    "rename": 82, "renameat": 264, "sendfile": 40, "stat": 4, "statfs": 137, "statx": 332, "umask": 95, "unlink": 87,
    "unlinkat": 263, "write": 1, "writev": 20,
}  # fmt: skip
WAITING = {
    "clock_nanosleep": 230, "epoll_create": 213, "epoll_create1": 291, "epoll_ctl": 233, "epoll_pwait": 281,
    "epoll_wait": 232, "eventfd": 284, "eventfd2": 290, "futex": 202, "futex_waitv": 449, "nanosleep": 35,
    "pause": 34, "poll": 7, "ppoll": 271, "pselect6": 270, "restart_syscall": 219, "sched_yield": 24, "select": 23,
}  # fmt: skip
SIGNALS = {
    "alarm": 37, "getitimer": 36, "rt_sigaction": 13, "rt_sigpending": 127, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "rt_sigsuspend": 130, "rt_sigtimedwait": 128, "setitimer": 38, "sigaltstack": 131,
}  # fmt: skip
THREADS = {
    "arch_prctl": 158, "exit": 60, "exit_group": 231, "get_robust_list": 274, "gettid": 186, "rseq": 334,
    "set_robust_list": 273, "set_tid_address": 218, "wait4": 61, "waitid": 247,
}  # fmt: skip
QUESTIONS = {
    "capget": 125, "clock_getres": 229, "clock_gettime": 228, "getcpu": 309, "getegid": 108, "geteuid": 107,
    "getgid": 104, "getgroups": 115, "getpgid": 121, "getpgrp": 111, "getpid": 39, "getppid": 110, "getpriority": 140,
    "getrandom": 318, "getresgid": 120, "getresuid": 118, "getrlimit": 97, "getrusage": 98, "getsid": 124,
    "gettimeofday": 96, "getuid": 102, "sched_getaffinity": 204, "sysinfo": 99, "time": 201, "times": 100, "uname": 63,
}  # fmt: skip
OWN_PAIR = {"getpeername": 52, "getsockname": 51, "getsockopt": 55, "recvfrom": 45, "shutdown": 48}

ALLOWED = {**MEMORY, **FILES, **WAITING, **SIGNALS, **THREADS, **QUESTIONS, **OWN_PAIR}

HOSTILE = {
    "acct": 163, "add_key": 248, "adjtimex": 159, "bpf": 321, "capset": 126, "chroot": 161, "clock_adjtime": 305,
    "clock_settime": 227, "delete_module": 176, "execveat": 322, "fanotify_init": 300, "finit_module": 313,
    "fsconfig": 431, "fsmount": 432, "fsopen": 430, "fspick": 433, "init_module": 175, "io_uring_enter": 426,
    "io_uring_register": 427, "io_uring_setup": 425, "ioperm": 173, "iopl": 172, "kcmp": 312, "kexec_file_load": 320,
    "kexec_load": 246, "keyctl": 250, "lookup_dcookie": 212, "modify_ldt": 154,
    "mount": 165, "mount_setattr": 442, "move_mount": 429, "name_to_handle_at": 303, "open_by_handle_at": 304,
    "open_tree": 428, "perf_event_open": 298, "personality": 135, "pidfd_getfd": 438, "pidfd_open": 434,
    "pidfd_send_signal": 424, "pivot_root": 155, "process_madvise": 440, "process_mrelease": 448,
    "process_vm_readv": 310, "process_vm_writev": 311, "ptrace": 101, "quotactl": 179, "reboot": 169,
    "request_key": 249, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "setdomainname": 171, "setfsgid": 123,
    "setfsuid": 122, "setgid": 106, "setgroups": 116, "sethostname": 170, "setns": 308, "setregid": 114,
    "setresgid": 119, "setresuid": 117, "setreuid": 113, "settimeofday": 164, "setuid": 105, "swapoff": 168,
    "swapon": 167, "syslog": 103, "tkill": 200, "umount2": 166, "unshare": 272, "userfaultfd": 323, "vhangup": 153,
}  # fmt: skip

_CLONE, _CLONE3, _FCNTL, _IOCTL, _KILL, _OPEN, _OPENAT, _OPENAT2 = 56, 435, 72, 16, 62, 2, 257, 437
_PRLIMIT, _SENDTO, _SOCKETPAIR, _TGKILL = 302, 44, 53, 234

_THREAD, _NEW_NAMESPACES = 0x00010000, 0x7E020000
_WAY_OF_OPENING, _TRUNCATE, _NAMELESS = 0o3, 0o1000, 0o20000000  # O_ACCMODE, O_TRUNC, the bit of O_TMPFILE
_DUPLICATE, _FLAGS, _DUPLICATE_CLOSING, _PIPE_SIZE = 0, range(1, 5), 1030, 1032
_TERMINAL_QUESTIONS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # attributes, size, bytes to read, flags
_UNIX = 1

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _REFUSE, _UNKNOWN, _DIE = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
"""Make the call; answer EPERM; answer ENOSYS, so that the C library takes its older way; kill the process."""

_X86_64 = 0xC000003E
_OTHER_NUMBERING = 0x40000000  # the calls of the x32 binary interface

Code = list[tuple[int, int, int, int]]


def instructions(own_process: int) -> bytes:
    """The filter for the process of this id, as the kernel takes it."""
    code: Code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _X86_64), _give(_DIE), (_LOAD, 0, 0, 0)]
    code += [(_AT_LEAST, 0, 1, _OTHER_NUMBERING), _give(_DIE)]
    for number in sorted(ALLOWED.values()):
        code += _when(number, [_give(_ALLOW)])
    for number in sorted(HOSTILE.values()):
        code += _when(number, [_give(_DIE)])
    for number in (_CLONE3, _OPENAT2):  # their arguments lie in memory, where a filter cannot look
        code += _when(number, [_give(_UNKNOWN)])
    code += _when(_CLONE, [*_low(0), (_ANY_BIT, 0, 1, _NEW_NAMESPACES), _give(_DIE), *_if_bits(_THREAD)])
    code += _when(_OPEN, _opening(1)) + _when(_OPENAT, _opening(2))
    code += _when(_FCNTL, _one_of(1, (_DUPLICATE, *_FLAGS, _DUPLICATE_CLOSING, _PIPE_SIZE)))
    code += _when(_IOCTL, _one_of(1, _TERMINAL_QUESTIONS))
    for number in (_KILL, _TGKILL):
        code += _when(number, [*_low(0), (_EQUAL, 0, 1, own_process), _give(_ALLOW), _give(_DIE)])
    code += _when(_SOCKETPAIR, _one_of(0, (_UNIX,)))
    code += _when(_SENDTO, _zero(4))  # with an address it could reach a socket of others
    code += _when(_PRLIMIT, [*_low(0), (_EQUAL, 1, 0, 0), _give(_REFUSE), *_zero(2)])  # asking, and only for itself
    code.append(_give(_REFUSE))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _give(answer: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, answer)


def _when(number: int, body: Code) -> Code:
    """`body`, which returns on every way, for the call of this number."""
    return [(_EQUAL, 0, len(body), number), *body]


def _low(argument: int) -> Code:
    """Load the lower half of an argument; the upper one is no part of what the kernel reads as an int."""
    return [(_LOAD, 0, 0, 16 + 8 * argument)]


def _if_bits(bits: int) -> Code:
    return [(_ANY_BIT, 0, 1, bits), _give(_ALLOW), _give(_REFUSE)]


def _one_of(argument: int, values: Iterable[int]) -> Code:
    code = _low(argument)
    for value in values:
        code += [(_EQUAL, 0, 1, value), _give(_ALLOW)]
    return [*code, _give(_REFUSE)]


def _zero(argument: int) -> Code:
    """Allowed where all 64 bits of an argument, a pointer, are 0."""
    place = 16 + 8 * argument
    lower, upper = (_LOAD, 0, 0, place), (_LOAD, 0, 0, place + 4)
    return [lower, (_EQUAL, 1, 0, 0), _give(_REFUSE), upper, (_EQUAL, 1, 0, 0), _give(_REFUSE), _give(_ALLOW)]


def _opening(argument: int) -> Code:
    """Landlock decides what may be opened. Old ones do not see a file that is emptied while being opened for reading;
    a file without a name would not be counted as the program's.
    """
    code = [*_low(argument), (_ANY_BIT, 0, 1, _NAMELESS), _give(_REFUSE), (_AND, 0, 0, _WAY_OF_OPENING | _TRUNCATE)]
    return [*code, (_EQUAL, 0, 1, _TRUNCATE), _give(_REFUSE), _give(_ALLOW)]
