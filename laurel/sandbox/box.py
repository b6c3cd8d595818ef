"""The process between Laurel and the programs: it runs none of them itself, and ends with everything that it started.

    Laurel  ->  the starter of boxes  ->  box  ->  the program, confined
                                               ->  its tests, confined, where there are some
                                               ->  the first process of the new name spaces, which does nothing; all
                                                   others there die with it

It holds no test and no program: each confined process reads its own job, after which nobody else can.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from laurel.sandbox import kernel
from laurel.sandbox.confinement import Bounds, confine
from laurel.sandbox.roles import OUT_OF_MEMORY, ROLES

_LOOK_SECONDS = 0.05


def main() -> None:
    """Start boxes as Laurel asks for them, until it is gone: see `laurel.sandbox.starting`."""
    control = socket.socket(fileno=int(sys.argv[1]))
    shared = json.loads(sys.argv[2])
    boxes: dict[int, str] = {}  # and the folder that each has
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1 << 16, 64)
        if not message:
            for box, folder in boxes.items():
                _end(box)
                shutil.rmtree(folder, ignore_errors=True)  # Laurel is gone, and may not have come to it
            os._exit(0)
        request = json.loads(message)
        if "end" in request:
            boxes.pop(request["end"], None)
            answer = _end(request["end"])
        else:
            answer = os.fork()
            if answer == 0:
                try:
                    control.close()
                    os.setsid()
                    _box(_placed({**shared, **request}, descriptors))
                finally:
                    os._exit(1)
            boxes[answer] = request["folder"]
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(b"%d" % answer)


def _end(box: int) -> int:
    """Kill a box with everything in its group, and reap it."""
    for kill in (os.killpg, os.kill):
        try:
            kill(box, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it has no group of its own yet, and so has started nothing
    return os.waitstatus_to_exitcode(os.waitpid(box, 0)[1])


def _placed(plan: Mapping[str, Any], descriptors: Sequence[int]) -> dict[str, Any]:
    """The plan with descriptors where it names their places."""
    members = [
        {
            **member,
            "job": descriptors[member["job"]],
            "streams": [descriptors[place] for place in member["streams"]],
            "result": None if member["result"] is None else descriptors[member["result"]],
        }
        for member in plan["members"]
    ]
    return {**plan, "members": members, **{name: descriptors[plan[name]] for name in ("status", "control")}}


def _box(plan: Mapping[str, Any]) -> None:
    """Start what a plan says, wait for it, and say how each part ended."""
    kernel.die_with_parent()
    namespaces = plan["namespaces"] and kernel.new_namespaces()
    if namespaces:
        _first_process()
    ends = _pipes(plan["members"])
    started = {_start(member, plan, ends[index]): member["role"] for index, member in enumerate(plan["members"])}
    for pair in ends:
        for descriptor in pair.values():
            os.close(descriptor)
    said = _wait(started, plan)
    os.write(plan["status"], json.dumps({**said, "namespaces": namespaces}).encode() + b"\n")
    os._exit(0)


def _first_process() -> None:
    """Number 1 of the new namespace: when it ends, which it does with the box, the kernel kills all others in it."""
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.close(theirs)
        _close_others({ours})
        os.read(ours, 1)
        os._exit(0)
    os.close(ours)


def _pipes(members: list[Mapping[str, Any]]) -> list[dict[str, int]]:
    """Two pipes between the two members, if there are two."""
    if len(members) == 1:
        return [{}]
    questions, answers = os.pipe(), os.pipe()
    return [{"source": questions[0], "sink": answers[1]}, {"source": answers[0], "sink": questions[1]}]


def _start(member: Mapping[str, Any], plan: Mapping[str, Any], ends: Mapping[str, int]) -> int:
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        code = _live(member, plan, ends)
    finally:
        os._exit(code)


def _live(member: Mapping[str, Any], plan: Mapping[str, Any], ends: Mapping[str, int]) -> int:
    """The life of a confined process."""
    try:
        with os.fdopen(member["job"], "rb") as file:
            job = {**json.load(file), **ends, "result": member["result"]}
        writes = [plan["folder"]] if member["writes"] else []
        if writes:
            os.chdir(plan["folder"])
        for stream, descriptor in enumerate(member["streams"]):
            os.dup2(descriptor, stream)
        keep = {0, 1, 2, plan["status"], *(job[name] for name in ("source", "sink", "result") if job.get(name))}
        _close_others(keep)
        confine(Bounds(**plan["bounds"]), plan["reads"], plan["lists"], [*writes, os.devnull])
    except BaseException as error:
        os.write(plan["status"], json.dumps({"fault": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        return 70
    os.close(plan["status"])
    for name in [name for name in sys.modules if name.partition(".")[0] == "laurel"]:
        del sys.modules[name]
    sys.path.pop(0)
    os.environ.clear()
    os.environ.update(plan["environment"])
    sys.argv = ["program.py"]
    return _run(member["role"], job)


def _run(role: str, job: Mapping[str, Any]) -> int:
    """The exit code that Python itself would give."""
    code = 0
    try:
        ROLES[role](job)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if not isinstance(error.code, int | None):
            print(error.code, file=sys.stderr)
    except MemoryError:
        code = OUT_OF_MEMORY
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        for thread in threading.enumerate():
            if role == "script" and thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return code or 1
    return code & 0xFF


def _close_others(keep: set[int]) -> None:
    for descriptor in {int(name) for name in os.listdir("/proc/self/fd")} - keep:
        try:
            os.close(descriptor)
        except OSError:
            continue  # the one that the list was read through


def _worked(process: int) -> float:
    """Seconds of processor time of a process that was not reaped yet, with all of its threads."""
    return time.clock_gettime(~process << 3 | 2)  # the number of its clock, as clock_getcpuclockid(3) makes it


def _wait(started: dict[int, str], plan: Mapping[str, Any]) -> dict[str, Any]:
    """How each ended. At the deadline, when the tests are through, or when Laurel is gone, what is left is killed."""
    bounds = Bounds(**plan["bounds"])
    deadline = time.monotonic() + bounds.clock_seconds
    handles = {os.pidfd_open(child): child for child in started}
    poll = select.poll()
    for handle in (*handles, plan["control"]):
        poll.register(handle, select.POLLIN | select.POLLHUP)
    ended: dict[str, int] = {}
    late = through = False
    while handles:
        ready = {handle for handle, _ in poll.poll(1000 * _LOOK_SECONDS)}
        for handle in ready & set(handles):
            poll.unregister(handle)
            child = handles.pop(handle)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            ended[started[child]] = 0 if through and code == -signal.SIGKILL else code
            os.close(handle)
        if plan["control"] in ready:
            os._exit(0)  # nobody waits any more; what was started dies with this process
        late = late or time.monotonic() >= deadline or sum(map(_worked, handles.values())) >= bounds.seconds
        through = "judge" in ended and not late  # the program has answered all questions; it need not end by itself
        if late or through:
            for child in handles.values():
                os.kill(child, signal.SIGKILL)
    return {"ended": ended, "late": late}
