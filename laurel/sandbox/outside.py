"""Laurel's side of the sandbox: start a box, read what comes out of it, keep its bounds, clean up."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import IO, Any

from laurel.errors import SandboxError
from laurel.sandbox import kernel
from laurel.sandbox.confinement import Bounds
from laurel.sandbox.roles import OUT_OF_MEMORY
from laurel.sandbox.starting import REPORT, Box, starter

GRACE_SECONDS = 30.0
"""How long a box may take beyond its program's deadline, on a busy machine, before it counts as broken."""

_LOOK_SECONDS = 0.05
_RESULT_BYTES = 1 << 20


class Finish(StrEnum):
    """How a program ended."""

    EXITED = "exited"
    DEADLINE = "deadline"
    MEMORY = "memory"
    OUTPUT = "output"
    FOLDER = "folder"
    REFUSED = "refused"
    SIGNAL = "signal"


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it printed.

    Attributes:
        finish: exited by itself; or killed at its deadline, for too much output or too many files, for a call that
            the sandbox answers with death, or by another signal; or out of memory.
        exit_code: where it exited by itself.
        signal: the name of the signal that killed it.
        output, errors: what it printed to its two streams, up to the bound.
    """

    finish: Finish
    exit_code: int | None = None
    signal: str | None = None
    output: str = ""
    errors: str = ""

    @property
    def well(self) -> bool:
        """Whether it exited by itself with code 0."""
        return self.finish is Finish.EXITED and self.exit_code == 0

    def __str__(self) -> str:
        last = self.errors.strip().rpartition("\n")[2]
        said = f": {last[:200]}" if last else ""
        if self.finish is Finish.EXITED:
            return f"exited with code {self.exit_code}{said}"
        return f"{_WORDS[self.finish]}{f' ({self.signal})' if self.finish is Finish.SIGNAL else ''}{said}"


_WORDS = {
    Finish.DEADLINE: "was killed at its deadline",
    Finish.MEMORY: "ran out of memory",
    Finish.OUTPUT: "was killed for printing too much",
    Finish.FOLDER: "was killed for writing too much",
    Finish.REFUSED: "was killed for a system call that the sandbox refuses",
    Finish.SIGNAL: "was killed by a signal",
}


@dataclass(frozen=True)
class Member:
    """One confined process: its role, what it works on, and whether it has a folder to write to."""

    role: str
    job: Mapping[str, Any]
    writes: bool = True
    stdin: str = ""


@dataclass
class Said:
    """What came out of a box."""

    ended: dict[str, int]
    late: bool
    overrun: Finish | None
    output: bytes
    errors: bytes
    result: list[dict[str, Any]]
    namespaces: bool


def require() -> None:
    """Refuse to go on where no sandbox can be had: nothing that a model wrote runs without one.

    Raises:
        SandboxError: saying what this machine lacks.
    """
    lacking = kernel.missing()
    if lacking is not None:
        raise SandboxError(
            f"Programs that a model wrote cannot be run safely here: {lacking}.",
            hint="use a Linux machine (x86_64) with seccomp and Landlock; a container has the kernel of its host, and "
            "its seccomp profile must let the landlock calls through.",
        )


def run_box(members: Sequence[Member], bounds: Bounds, *, namespaces: bool = True) -> Said:
    """Run confined processes to their end. The first is the program; its output is read.

    Args:
        namespaces: use new name spaces where the kernel lets us. They are a second wall behind the filters, which hold
            without them too.

    Raises:
        SandboxError: if the sandbox itself failed. That says nothing of the program.
    """
    require()
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        streams: dict[str, int] = {}
        theirs: list[int] = []
        for name in ("output", "errors", "result", "status"):
            reader, writer = os.pipe()
            stack.callback(os.close, reader)
            streams[name] = reader
            theirs.append(writer)
        control, alive = os.pipe()
        nowhere = os.open(os.devnull, os.O_RDWR)
        with ExitStack() as handed:
            for descriptor in (*theirs, control, nowhere):
                handed.callback(os.close, descriptor)
            files = [_file(handed, json.dumps(dict(member.job))) for member in members]
            stdin = _file(handed, members[0].stdin)
            plan = {
                "members": [_described(index, members) for index in range(len(members))],
                "bounds": asdict(bounds),
                "folder": folder,
                "namespaces": namespaces,
                "status": _STATUS,
                "control": _CONTROL,
            }
            shared = {"reads": _readable(), "lists": [str(sysconfig.get_path("stdlib"))]}
            box = starter(shared).start(plan, [*theirs, control, nowhere, stdin, *files])
        stack.callback(box.end)
        stack.callback(os.close, alive)
        return _listen(box, streams, bounds, Path(folder))


_OUTPUT, _ERRORS, _RESULT, _STATUS, _CONTROL, _NOWHERE, _STDIN, _FIRST_JOB = range(8)
"""The places of what a box is handed."""


def _described(index: int, members: Sequence[Member]) -> dict[str, Any]:
    """One confined process, as the box reads it. The last one writes the result, unless it is a script."""
    member = members[index]
    writes_result = index == len(members) - 1 and member.role != "script"
    return {
        "role": member.role,
        "job": _FIRST_JOB + index,
        "streams": [_STDIN, _OUTPUT, _ERRORS] if index == 0 else [_NOWHERE, _NOWHERE, _NOWHERE],
        "writes": member.writes,
        "result": _RESULT if writes_result else None,
    }


def outcome(said: Said, role: str) -> Ended:
    """How the process with that role ended."""
    code = said.ended.get(role, 0)
    output, errors = said.output.decode(errors="replace"), said.errors.decode(errors="replace")
    if said.overrun is not None:
        return Ended(said.overrun, None, None, output, errors)
    if code >= 0:
        finish = Finish.MEMORY if code == OUT_OF_MEMORY else Finish.EXITED
        return Ended(finish, None if finish is Finish.MEMORY else code, None, output, errors)
    name = signal.Signals(-code).name
    finish = Finish.SIGNAL
    if name == "SIGSYS":
        finish = Finish.REFUSED
    elif said.late or name == "SIGXCPU":
        finish = Finish.DEADLINE
    return Ended(finish, None, name, output, errors)


@contextmanager
def _folder() -> Iterator[str]:
    """An empty folder that is gone afterwards. No program can make folders or links in it, so that it is flat."""
    path = tempfile.mkdtemp(prefix="laurel-")
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _file(stack: ExitStack, text: str) -> int:
    """A file without a name that holds `text`, opened at its start."""
    file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    file.write(text.encode(errors="surrogatepass"))
    file.seek(0)
    return file.fileno()


def _listen(box: Box, streams: Mapping[str, int], bounds: Bounds, folder: Path) -> Said:
    received = {name: bytearray() for name in streams}
    most = {"output": bounds.output_bytes, "errors": bounds.output_bytes}
    overrun: Finish | None = None
    deadline = time.monotonic() + bounds.clock_seconds + GRACE_SECONDS
    with selectors.DefaultSelector() as selector:
        for name, stream in streams.items():
            selector.register(stream, selectors.EVENT_READ, name)
        while selector.get_map() and overrun is None:
            for key, _ in selector.select(_LOOK_SECONDS):
                data = os.read(key.fd, 1 << 16)
                received[key.data] += data
                if not data:
                    selector.unregister(key.fd)
                elif len(received[key.data]) > most.get(key.data, _RESULT_BYTES):
                    overrun = Finish.OUTPUT
            if _written(folder, bounds.folder_files) > bounds.folder_bytes:
                overrun = Finish.FOLDER
            if time.monotonic() > deadline:
                raise SandboxError(
                    "A sandbox hung and was killed.", hint="is the machine overloaded? Use less workers."
                )
    lines = [json.loads(line) for line in bytes(received["status"]).splitlines()]
    fault = next((line["fault"] for line in lines if "fault" in line), None)
    if fault is not None:
        raise SandboxError(f"A sandbox could not confine its program, which was not run: {fault}.", hint=REPORT)
    if not lines and overrun is None:
        raise SandboxError(f"A sandbox died with code {box.end()}.", hint=REPORT)
    status: dict[str, Any] = lines[-1] if lines else {"ended": {}, "late": False, "namespaces": False}
    output, errors = (bytes(received[name][: bounds.output_bytes]) for name in ("output", "errors"))
    result = _lines(bytes(received["result"]))
    return Said(status["ended"], status["late"], overrun, output, errors, result, status["namespaces"])


def _lines(data: bytes) -> list[dict[str, Any]]:
    """Whole lines of JSON objects; what a dying process left unfinished is passed over."""
    found = []
    for line in data.split(b"\n")[:-1]:
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(said, dict):
            found.append(said)
    return found


def _written(folder: Path, most_files: int) -> float:
    """Bytes in a folder; without end where it has too many files."""
    total = 0
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number >= most_files:
                return float("inf")
            try:
                total += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
    return total


@cache
def _readable() -> list[str]:
    """What Python itself reads: its library without installed packages, and the system's shared libraries."""
    paths: list[str] = []
    for name in {sysconfig.get_path("stdlib"), sysconfig.get_config_var("DESTSHARED")} - {None}:
        folder = Path(str(name))
        if folder.is_dir():
            paths += [str(item) for item in folder.iterdir() if item.name not in ("site-packages", "dist-packages")]
    paths += ["/etc/ld.so.cache", "/dev/urandom"]
    libraries = [Path(place) for place in ("/lib", "/lib64", "/usr/lib", "/usr/lib64")]
    for library in libraries:
        paths += [str(item) for item in library.iterdir() if _is_library(item)] if library.is_dir() else []
    beside = Path(str(sysconfig.get_config_var("LIBDIR") or sys.base_prefix))
    paths += [str(item) for item in beside.glob("lib*.so*")] if beside.is_dir() else []
    return sorted(set(paths))


def _is_library(item: Path) -> bool:
    """A shared library, or the folder of one architecture's."""
    return ".so" in item.name or item.name.endswith("-linux-gnu")
