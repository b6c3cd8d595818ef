"""One writer per run directory."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
import weakref
from pathlib import Path

from laurel.errors import RunError

# Readers hold the lock for microseconds to ask whether a writer lives; a new writer waits them out.
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.025


class WriterLock:
    """The exclusive right to write a run, held while this object is open.

    It is a `flock`, so the kernel frees it when the process dies in whatever way: a lock left behind by a dead
    process needs no clean-up, and the file's content (who holds it) is only there to be shown.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            RunError: if a live process has it; the message names its pid.
        """
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        for attempt in range(_ATTEMPTS):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == _ATTEMPTS - 1:
                    os.close(self._file)
                    raise RunError(
                        f"{path.parent} is being written by {describe_holder(path)}.",
                        hint="wait for that process or stop it; a run has one writer at a time.",
                    ) from None
                time.sleep(_PAUSE_SECONDS)
        holder = json.dumps({"pid": os.getpid(), "host": platform.node()}).encode()
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, holder, 0)
        except OSError:
            os.close(self._file)
            raise
        _held.add(self)

    def release(self) -> None:
        """Free the lock; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


def _drop_inherited_locks() -> None:
    for lock in list(_held):
        lock.release()


# A forked child (a grader) inherits the descriptor and would keep the lock alive after the death of this process.
# Closing the child's copy leaves the parent's lock in place.
os.register_at_fork(after_in_child=_drop_inherited_locks)


def is_held(path: Path) -> bool:
    """Whether a live process writes the run whose lock file this is."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def describe_holder(path: Path) -> str:
    """Who holds the lock, in words."""
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
