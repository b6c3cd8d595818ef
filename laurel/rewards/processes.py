"""Starting and ending grading processes: fresh ones for rewards that can be imported, forked ones for all others."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from laurel.errors import ConfigurationError, RewardError
from laurel.rewards.messages import address
from laurel.rewards.reward import Reward, name_of
from laurel.rewards.worker import end, fork_on_demand


@dataclass
class Worker:
    """One grading process, as the pool sees it.

    Attributes:
        connection: where lines go in and come out.
        process: its id.
        received: what came out and is not yet a whole line.
        ready: whether it has said that it can take jobs.
        job: index of the job that it works on.
        deadline: when it is killed if it has said nothing by then, on the monotonic clock.
    """

    connection: socket.socket
    process: int
    deadline: float
    received: bytearray = field(default_factory=bytearray)
    ready: bool = False
    job: int | None = None


class Starter(Protocol):
    """Makes workers and ends them."""

    def start(self) -> tuple[socket.socket, int]:
        """A new process: this side of its connection, and its id."""
        ...

    def end(self, process: int) -> int:
        """Kill it with everything that it started; its exit code, negative for a signal."""
        ...

    def close(self) -> None:
        """Nothing will be started any more."""
        ...


def starter(reward: Reward, timeout_seconds: float) -> Starter:
    """The right one for this reward.

    Raises:
        ConfigurationError: on a system without `fork` and sockets between processes.
    """
    if not hasattr(os, "fork"):
        raise ConfigurationError(
            f"The reward {name_of(reward)} needs a grading process, which this system cannot start.",
            hint="use Linux, macOS or WSL; or mark it with laurel.rewards.in_process, giving up deadlines.",
        )
    place = address(reward)
    return Nursery(reward, timeout_seconds) if place is None else Fresh(place, timeout_seconds)


class Fresh:
    """Each worker is a new interpreter that imports the reward: it shares nothing with this process."""

    def __init__(self, place: Mapping[str, Any], timeout_seconds: float) -> None:
        self._arguments = [json.dumps(place), str(timeout_seconds)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> tuple[socket.socket, int]:
        """See `Starter`."""
        ours, theirs = socket.socketpair()
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        code = "from laurel.rewards.worker import main; main()"
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", code, str(theirs.fileno()), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__.fileno() if sys.__stderr__ else subprocess.DEVNULL,
                env={"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": paths},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._processes[process.pid] = process
        return ours, process.pid

    def end(self, process: int) -> int:
        """See `Starter`."""
        child = self._processes.pop(process)
        child.returncode = end(process)
        return child.returncode

    def close(self) -> None:
        """See `Starter`."""
        for process in list(self._processes):
            self.end(process)


class Nursery:
    """Rewards that only exist in memory (closures, lambdas, `__main__`) are inherited by fork.

    One process is forked when the grader is made, before sampling and learning start threads; it forks every worker,
    so that a replacement never has to leave this process while its threads run. What a closure refers to is frozen at
    that moment, and it should not use torch: a library's threads do not survive a fork. Rewards that can be imported
    have neither limit.
    """

    def __init__(self, reward: Reward, timeout_seconds: float) -> None:
        self._name = name_of(reward)
        self._control, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # The warning is about threads that hold locks; the child runs the loop below and the reward, nothing else.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process = os.fork()
        if self._process == 0:
            try:
                os.setsid()
                self._control.close()
                fork_on_demand(reward, theirs, timeout_seconds)
            finally:
                os._exit(0)
        theirs.close()

    def start(self) -> tuple[socket.socket, int]:
        """See `Starter`."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"f"], [theirs.fileno()])
            return ours, self._answer()
        except OSError as error:
            ours.close()
            raise self._gone() from error

    def end(self, process: int) -> int:
        """See `Starter`."""
        try:
            self._control.sendall(b"k%d" % process)
            return self._answer()
        except OSError as error:
            raise self._gone() from error

    def close(self) -> None:
        """See `Starter`."""
        if self._control.fileno() >= 0:
            self._control.close()
            os.waitpid(self._process, 0)

    def _answer(self) -> int:
        answer = self._control.recv(64)
        if not answer:
            raise ConnectionResetError("the other side has closed")
        return int(answer)

    def _gone(self) -> RewardError:
        return RewardError(
            f"The process that starts graders for the reward {self._name} has died.",
            hint="if memory ran out, use fewer grading workers, then resume the run; a reward that can be imported "
            "from a module needs no such process.",
        )
