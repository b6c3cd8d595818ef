"""Calls of environments, each with a deadline: one that hangs fails its own rollout, and holds up no other."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from laurel.errors import EnvironmentFault, said_by
from laurel.rollout.limits import Limits

CALLS_AT_ONCE = 32
HANGING_CALLS = 64  # two whole batches: a few lost sandboxes go on being lost quietly, a dead service stops the run

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One question to an environment.

    Attributes:
        rollout: whose.
        what: for messages, such as "turn 2 of the episode".
        function: asks it.
        direct: whether it cannot hang, and is called in this thread, without a deadline.
        parts: how many times it asks, one after the other; it has as many times the seconds.
    """

    rollout: str
    what: str
    function: Callable[[], Answer]
    direct: bool
    parts: int = 1


@dataclass(frozen=True)
class Unanswered:
    """Why there is no answer, without the name of the rollout, so that reasons repeat.

    `late` says that the sampler's own time was over, not the environment's.
    """

    reason: str
    late: bool = False


class Answering:
    """Asks environments within `limits`; it is made when a `collect` starts, and its time runs from then.

    Every call runs in a thread of its own, at most `CALLS_AT_ONCE` at a time, so that slow environments work side by
    side. The deadline counts from the start of the call itself, never from its place in the queue. Answers come back
    in the order of the questions, whatever order they arrived in.

    A thread cannot be killed. One that misses its deadline is abandoned: it is a daemon, so it cannot hold up the end
    of the process, and what it answers later is discarded; until it returns it keeps its memory and whatever it holds
    open. `HANGING_CALLS` such threads in the process are too many, and stop the run. A call that keeps the
    interpreter's lock (a loop inside a C extension) holds up everything, and no deadline reaches it.

    The calls of one episode never overlap, but may come from different threads. Environments that are marked with
    `runs_in_process = True` are called directly in the thread of the run, without a deadline.

    Attributes:
        deadline: on the monotonic clock, when `limits.timeout_seconds` are over; None: never.
    """

    def __init__(self, limits: Limits) -> None:
        self._seconds = limits.environment_timeout_seconds
        self._whole = limits.timeout_seconds
        self.deadline = None if self._whole is None else time.monotonic() + self._whole

    def ask(self, calls: Sequence[Call[Answer]]) -> list[Answer | Unanswered]:
        """The answer to each call, in order, or why there is none.

        Raises:
            EnvironmentFault: if too many calls hang.
        """
        answers: list[Answer | Unanswered | None] = [None] * len(calls)
        waiting = deque(index for index, call in enumerate(calls) if not call.direct)
        running: dict[int, _Thread[Answer]] = {}
        finished: SimpleQueue[int] = SimpleQueue()
        for index, call in enumerate(calls):
            if call.direct:
                answers[index] = _outcome(call, *_tried(call.function))
        while waiting or running:
            while waiting and len(running) < CALLS_AT_ONCE:
                index = waiting.popleft()
                if self.deadline is not None and time.monotonic() >= self.deadline:
                    answers[index] = self._over(calls[index])
                    continue
                running[index] = _Thread(index, calls[index].function, finished, self._until(calls[index]))
                running[index].start()
            for index in _done(running, finished):
                thread = running.pop(index)
                answers[index] = _outcome(calls[index], thread.answer, thread.error)
            for index in [index for index, thread in running.items() if time.monotonic() >= thread.deadline]:
                answers[index] = self._abandon(calls[index], running.pop(index))
        return [answer for answer in answers if answer is not None]

    def _until(self, call: Call[Answer]) -> float:
        own = time.monotonic() + call.parts * self._seconds
        return own if self.deadline is None else min(own, self.deadline)

    def _over(self, call: Call[Answer]) -> Unanswered:
        return Unanswered(
            f"{call.what} was not answered when the {self._whole:g} seconds of the whole "
            "sampling were over; raise limits.timeout_seconds, or make the environment faster",
            late=True,
        )

    def _abandon(self, call: Call[Answer], thread: _Thread[Answer]) -> Unanswered:
        thread.abandoned = True
        hanging = hanging_calls()
        if hanging > HANGING_CALLS:
            raise EnvironmentFault(
                f"{hanging} calls of environments hang, the last of them {call.what}, rollout {call.rollout}.",
                hint="find out what they wait for and give it time-outs of its own (network calls, subprocesses), or "
                "raise limits.environment_timeout_seconds if they are only slow.",
            )
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return self._over(call)
        return Unanswered(
            f"{call.what} was not answered within {call.parts * self._seconds:g} seconds; find "
            "out what it waits for, or raise limits.environment_timeout_seconds if it is only slow"
        )


def hanging_calls() -> int:
    """How many abandoned calls of environments have not returned yet, in the whole process."""
    return sum(isinstance(thread, _Thread) and thread.abandoned for thread in threading.enumerate())


class _Thread(threading.Thread, Generic[Answer]):
    """One call. `index` is put on `finished` when it returns."""

    def __init__(self, index: int, function: Callable[[], Answer], finished: SimpleQueue[int], deadline: float) -> None:
        super().__init__(name="laurel-environment", daemon=True)
        self.index = index
        self.function = function
        self.finished = finished
        self.deadline = deadline
        self.abandoned = False
        self.answer: Answer | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        self.answer, self.error = _tried(self.function)
        self.finished.put(self.index)


def _tried(function: Callable[[], Answer]) -> tuple[Answer | None, BaseException | None]:
    try:
        return function(), None
    except BaseException as error:  # also an exit and an interrupt: whoever waits for the thread decides about them
        return None, error


def _outcome(call: Call[Answer], answer: Answer | None, error: BaseException | None) -> Answer | Unanswered:
    if error is None:
        assert answer is not None
        return answer
    if isinstance(error, Exception | SystemExit):
        return Unanswered(f"{call.what} raised {said_by(error)}")
    raise error


def _done(running: dict[int, _Thread[Answer]], finished: SimpleQueue[int]) -> list[int]:
    """Wait until a running call returns or the next deadline passes; those that have returned."""
    if not running:
        return []
    done: list[int] = []
    wait = max(0.0, min(thread.deadline for thread in running.values()) - time.monotonic())
    try:
        done.append(finished.get(timeout=wait))
        while True:
            done.append(finished.get_nowait())
    except Empty:
        pass
    return [index for index in done if index in running]  # an abandoned call may return after all
