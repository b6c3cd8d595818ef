"""What a process gives up before it runs what a model wrote, in the order in which it can."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass

from laurel.errors import ConfigurationError
from laurel.sandbox import kernel, landlock, seccomp


@dataclass(frozen=True)
class Bounds:
    """How much a program may use.

    Attributes:
        seconds: of processor time, with its tests; what it still does then is killed. On the clock it may take twice
            as long, so that a busy machine does not turn a right program into a slow one.
        memory_bytes: address space.
        output_bytes: of what it prints, to either stream.
        file_bytes: of one file. Files lie in an empty folder of its own, the only place where it can write.
        folder_bytes, folder_files: of all files together. They are counted twenty times a second, so that a program
            can exceed them for that long.
        open_files: at a time.
    """

    seconds: float = 4.0
    memory_bytes: int = 1 << 29
    output_bytes: int = 1 << 18
    file_bytes: int = 1 << 22
    folder_bytes: int = 1 << 24
    folder_files: int = 64
    open_files: int = 32

    def __post_init__(self) -> None:
        least = {"memory_bytes": 1 << 26, "open_files": 16, "output_bytes": 1}
        for name, value in vars(self).items():
            if not least.get(name, 0) <= value < math.inf or (name == "seconds" and value == 0):
                raise ConfigurationError(
                    f"{name}={value!r} is no bound for a program.",
                    hint=f"give a finite number, at least {least[name]}." if name in least else "give one above 0.",
                )

    @property
    def clock_seconds(self) -> float:
        """How long it may take on the clock."""
        return 2 * self.seconds


def confine(bounds: Bounds, reads: Sequence[str], lists: Sequence[str], writes: Sequence[str]) -> None:
    """Confine this process for good: it opens files only below `reads` and `writes`, starts no program or process,
    reaches no network, touches no other process, and is killed where it uses too much.

    Processes need no bound of their number, which Linux would count over all of a user's: there can be one only.

    Raises:
        OSError: naming the step that the kernel refused. Then nothing of a model may run here.
    """
    kernel.die_with_parent()
    seconds = math.ceil(bounds.seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))  # a signal that says why, then one that kills
    for kind, most in (
        (resource.RLIMIT_AS, bounds.memory_bytes),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
        (resource.RLIMIT_NOFILE, bounds.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    kernel.no_new_privileges()
    landlock.restrict(reads, lists, writes)
    kernel.drop_capabilities()
    kernel.install_filter(seccomp.instructions(os.getpid()))
