"""A program as expert: started once for every question, and killed at its deadline with everything that it started."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

from laurel.errors import ConfigurationError
from laurel.experts.expert import NoReply, Question, Replied

LONGEST_REPLY = 1 << 20
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Program:
    """Runs a command for every question.

    It reads one JSON object from its standard input,

        {"id": ..., "prompt": ..., "reference": ..., "data": {...}, "dialogue": [...]}

    (the task, and `Question.dialogue`), and writes its answer to its standard output; one newline at the end is not
    part of it. An exit code other than 0 is a failure, whose reason is the last line of its standard error.

    Attributes:
        command: the program and its arguments; no shell reads them.
        timeout_seconds: for one question; then the program's whole process group is killed.
        at_once: how many questions are asked at the same time.

    Raises:
        ConfigurationError: there is no such program, or a setting means nothing.
    """

    command: tuple[str, ...]
    timeout_seconds: float = 60.0
    at_once: int = 4

    def __post_init__(self) -> None:
        if isinstance(self.command, str) or not self.command or not all(isinstance(part, str) for part in self.command):
            raise ConfigurationError(
                f"The expert's command must be a list of texts, got {self.command!r}.",
                hint='such as command: [python, solver.py, "--depth", "3"].',
            )
        object.__setattr__(self, "command", tuple(self.command))
        if shutil.which(self.command[0]) is None:
            raise ConfigurationError(
                f"The expert's program {self.command[0]!r} is not there, or may not be run.", hint="check the path."
            )
        if not self.timeout_seconds > 0:
            raise ConfigurationError(
                f"timeout_seconds must be above 0, got {self.timeout_seconds!r}.", hint="60 is the default."
            )
        if self.at_once < 1:
            raise ConfigurationError(f"at_once must be at least 1, got {self.at_once!r}.", hint="4 is the default.")

    def replies(self, questions: Sequence[Question]) -> list[Replied | NoReply]:
        """See `Expert.replies`."""
        with ThreadPoolExecutor(self.at_once, thread_name_prefix="laurel-expert") as threads:
            return list(threads.map(self._reply, questions))

    def _reply(self, question: Question) -> Replied | NoReply:
        task = question.task
        asked = {
            "id": task.id,
            "prompt": task.prompt,
            "reference": task.reference,
            "data": dict(task.data),
            "dialogue": list(question.dialogue),
        }
        with tempfile.TemporaryFile() as standard_input:
            try:
                standard_input.write(json.dumps(asked).encode())
            except (TypeError, ValueError) as error:
                return NoReply(f"task {task.id} cannot be written as JSON: {error}")
            standard_input.seek(0)
            return self._run(standard_input)

    def _run(self, standard_input: IO[bytes]) -> Replied | NoReply:
        try:
            process = subprocess.Popen(
                self.command,
                stdin=standard_input,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            return NoReply(f"the program {self.command[0]} could not be started: {error}")
        try:
            said, complained, why = _heard(process, time.monotonic() + self.timeout_seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also what it started and left behind
            process.wait()
        if why is not None:
            return NoReply(f"the program {self.command[0]} {why.format(seconds=f'{self.timeout_seconds:g}')}")
        if process.returncode != 0:
            lines = complained.decode(errors="replace").strip().splitlines()
            return NoReply(
                f"the program {self.command[0]} ended with {process.returncode}: {lines[-1] if lines else 'no message'}"
            )
        try:
            return Replied(said.decode().removesuffix("\n"))
        except UnicodeDecodeError:
            return NoReply(f"the program {self.command[0]} answered with bytes that are no UTF-8")


def _heard(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes, str | None]:
    """Standard output and error of a process until it has ended, and what was wrong if it did not end by itself."""
    assert process.stdout is not None and process.stderr is not None
    said, complained = bytearray(), bytearray()
    why = None
    with selectors.DefaultSelector() as open_pipes, process.stdout, process.stderr:
        open_pipes.register(process.stdout, selectors.EVENT_READ, said)
        open_pipes.register(process.stderr, selectors.EVENT_READ, complained)
        while open_pipes.get_map() and why is None:
            ready = open_pipes.select(max(0.0, deadline - time.monotonic()))
            for key, _ in ready:
                part = os.read(key.fd, _CHUNK)
                if not part:
                    open_pipes.unregister(key.fileobj)
                key.data.extend(part)
            if max(len(said), len(complained)) > LONGEST_REPLY:
                why = f"wrote more than {LONGEST_REPLY} bytes, and was killed"
            elif time.monotonic() >= deadline:
                why = "did not answer within {seconds} seconds, and was killed"
        if why is None:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                why = "did not end within {seconds} seconds, and was killed"
    return bytes(said), bytes(complained), why
