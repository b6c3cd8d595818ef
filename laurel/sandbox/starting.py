"""The process that starts boxes. It has loaded once what all of them need, and forks for each: that takes a few
milliseconds, where a new interpreter takes many. It runs no program, reads no job, and ends when Laurel does.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laurel.errors import SandboxError

ENVIRONMENT = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "TZ": "UTC", "OMP_NUM_THREADS": "1"}
"""All variables that a program finds. Sets have the same order every time: no score is a matter of chance."""


class Box:
    """A box that was started.

    Attributes:
        code: how it ended, once it was ended: its exit code, negative for a signal.
    """

    def __init__(self, starter: Starter, process: int) -> None:
        self._starter = starter
        self._process = process
        self.code: int | None = None

    def end(self) -> int:
        """Kill it with all that it started, which cannot leave its group; how it ended."""
        if self.code is None:
            self.code = int(self._starter.ask({"end": self._process}))
        return self.code


class Starter:
    """See above.

    Args:
        settings: what the plans of all boxes share.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(Path(__file__).parents[2])
        code = f"import sys; sys.path.insert(0, {root!r}); from laurel.sandbox.box import main; main()"
        shared = json.dumps({**settings, "environment": ENVIRONMENT})
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-s", "-S", "-P", "-X", "utf8", "-c", code, str(theirs.fileno()), shared],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=ENVIRONMENT,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise SandboxError(f"A sandbox could not be started: {error}.", hint=REPORT) from error
        self._control = ours
        self._lock = threading.Lock()
        weakref.finalize(self, _close, ours, self.process, os.getpid())

    def start(self, plan: Mapping[str, Any], descriptors: Sequence[int]) -> Box:
        """A box for a plan, which names descriptors by their place in the list."""
        return Box(self, int(self.ask(plan, descriptors)))

    def ask(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> bytes:
        """What it answers.

        Raises:
            SandboxError: it is gone.
        """
        with self._lock:
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], list(descriptors))
                answer = self._control.recv(64)
            except OSError:
                answer = b""
        if not answer:
            _RUNNING.pop(os.getpid(), None)
            raise SandboxError(f"What starts sandboxes died with code {self.process.wait()}.", hint=REPORT)
        return answer


REPORT = "try `laurel.sandbox.run('print(1)')` by itself; the machine may be out of memory or processes."

_RUNNING: dict[int, Starter] = {}
_STARTING = threading.Lock()


def starter(settings: Mapping[str, Any]) -> Starter:
    """The one of this process; a process that was forked from it gets its own."""
    with _STARTING:
        if os.getpid() not in _RUNNING:
            _RUNNING[os.getpid()] = Starter(settings)
        return _RUNNING[os.getpid()]


def _close(control: socket.socket, process: subprocess.Popen[bytes], owner: int) -> None:
    """Boxes die with their starter. One that was forked from the owner has the connection too, and leaves it."""
    control.close()
    if os.getpid() == owner:
        process.kill()
        process.wait()
