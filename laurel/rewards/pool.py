"""A pool of grading processes with deadlines that kill."""

from __future__ import annotations

import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import MappingProxyType

from laurel.errors import RewardError
from laurel.rewards.messages import read_reply
from laurel.rewards.processes import Starter, Worker, starter
from laurel.rewards.reward import Reward, name_of
from laurel.rewards.worker import READY
from laurel.tree import Failed, Score

START_SECONDS = 120.0
LONGEST_REPLY = 1 << 20
Result = Score | Failed


class Pool:
    """Runs jobs on at most `workers` processes.

    The clock of a job starts when an idle, ready worker gets it: waiting in the queue and importing the reward do not
    count. A job whose worker is killed or dies is tried again on a new worker, up to `retries` times.
    """

    def __init__(self, reward: Reward, *, workers: int, timeout_seconds: float, retries: int) -> None:
        self._name = name_of(reward)
        self._starter: Starter = starter(reward, timeout_seconds)
        self._size = workers
        self._timeout = timeout_seconds
        self._retries = retries
        self._workers: list[Worker] = []
        self._selector = selectors.DefaultSelector()

    def run(self, jobs: Sequence[bytes], final: Callable[[int, Result], None]) -> int:
        """Call `final(index, result)` once per job, in any order; the number of retries.

        Raises:
            RewardError: if a worker cannot load the reward. What `final` raises ends all workers and passes through.
        """
        waiting = deque(range(len(jobs)))
        attempts = [0] * len(jobs)

        def settle(job: int, result: Result) -> None:
            if isinstance(result, Failed) and attempts[job] <= self._retries:
                waiting.appendleft(job)
            else:
                final(job, result)

        try:
            while waiting or any(worker.job is not None for worker in self._workers):
                self._hire(len(waiting))
                for worker in [w for w in self._workers if w.ready and w.job is None][: len(waiting)]:
                    job = waiting.popleft()
                    attempts[job] += 1
                    self._send(worker, job, jobs[job], settle)
                self._attend(settle)
        except BaseException:
            self.dismiss()
            raise
        return sum(attempts) - len(jobs)

    def dismiss(self) -> None:
        """End all workers; the next run starts new ones."""
        for worker in list(self._workers):
            with suppress(RewardError):  # what ends workers is gone; they see their connections close, and end too
                self._end(worker)

    def close(self) -> None:
        """End everything for good."""
        self.dismiss()
        self._starter.close()
        self._selector.close()

    def _hire(self, waiting: int) -> None:
        free = sum(worker.job is None for worker in self._workers)
        for _ in range(min(self._size - len(self._workers), waiting - free)):
            connection, process = self._starter.start()
            worker = Worker(connection, process, deadline=time.monotonic() + START_SECONDS)
            self._workers.append(worker)
            self._selector.register(connection, selectors.EVENT_READ, worker)

    def _send(self, worker: Worker, job: int, line: bytes, settle: Callable[[int, Result], None]) -> None:
        try:
            worker.connection.settimeout(self._timeout)
            worker.connection.sendall(line)
        except OSError as error:
            self._end(worker)
            settle(job, Failed(f"the grader's worker took no job: {error}"))
            return
        worker.job, worker.deadline = job, time.monotonic() + self._timeout

    def _attend(self, settle: Callable[[int, Result], None]) -> None:
        """Wait for the next answer, death or deadline, and settle it."""
        watched = [worker.deadline for worker in self._workers if worker.job is not None or not worker.ready]
        if not watched:
            return
        for key, _ in self._selector.select(max(0.0, min(watched) - time.monotonic())):
            self._listen(key.data, settle)
        now = time.monotonic()
        for worker in [w for w in self._workers if (w.job is not None or not w.ready) and w.deadline <= now]:
            job = worker.job
            self._end(worker)
            if job is None:
                raise RewardError(
                    f"The reward {self._name} was not ready after {START_SECONDS:g} s.", hint="make its import quicker."
                )
            settle(job, Failed(f"the reward did not answer within {self._timeout:g} s and was killed"))

    def _listen(self, worker: Worker, settle: Callable[[int, Result], None]) -> None:
        try:
            data = worker.connection.recv(1 << 16)
        except ConnectionError:
            data = b""  # it died with a job unread; how is said below
        worker.received += data
        job = worker.job
        if not data or len(worker.received) > LONGEST_REPLY:
            how = _described(self._end(worker)) if not data else "answered without end"
            if not worker.ready:
                raise RewardError(f"The process for the reward {self._name} {how} before it was ready.", hint=_ALONE)
            if job is not None:
                settle(job, Failed(f"the process of the reward {how}"))
            return
        if not worker.received.endswith(b"\n"):
            return
        line, worker.received = bytes(worker.received), bytearray()
        if not worker.ready:
            if line != READY:
                reason = read_reply(line)
                said = reason.reason if isinstance(reason, Failed) else str(line)
                raise RewardError(f"A grading process cannot load the reward {self._name}: {said}", hint=_ALONE)
            worker.ready = True
        elif job is not None:
            worker.job = None
            settle(job, read_reply(line))

    def _end(self, worker: Worker) -> int:
        self._workers.remove(worker)
        self._selector.unregister(worker.connection)
        worker.connection.close()
        return self._starter.end(worker.process)


_ALONE = "import its module and call it once by hand; a reward is imported in a process of its own."
_SIGNALS = MappingProxyType({-number.value: number.name for number in signal.Signals})


def _described(code: int) -> str:
    return f"was ended by {_SIGNALS.get(code, code)}" if code < 0 else f"exited with code {code}"
