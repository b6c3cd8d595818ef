"""The inside of a grading process: read a job, call the reward, answer; until the other side closes or kills it."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import signal
import socket
import sys

from laurel.rewards.messages import find, read_request, reply
from laurel.rewards.reward import Reward, evaluate, reason_of

READY = b'{"ready": true}\n'


def serve(reward: Reward, connection: socket.socket, timeout_seconds: float) -> None:
    """Answer one line per line, in one event loop, so that asynchronous clients live as long as the worker.

    The deadline is kept by the other side. Should that side be gone, a hung reward still ends, a while after it.
    """
    orphaned_seconds = 2 * timeout_seconds + 5
    connection.sendall(READY)
    with asyncio.Runner() as runner, connection.makefile("rb") as lines, open(os.devnull, "w") as nowhere:
        for line in lines:
            task, subject = read_request(line)
            faulthandler.dump_traceback_later(orphaned_seconds, exit=True, file=nowhere)
            result = runner.run(evaluate(reward, task, subject))
            faulthandler.cancel_dump_traceback_later()
            connection.sendall(reply(result))


def main() -> None:
    """A fresh process: its arguments are the descriptor of its connection, the reward's address, and the deadline."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    try:
        try:
            reward = find(json.loads(sys.argv[2]))
        except Exception as error:
            connection.sendall(json.dumps({"failed": reason_of(error)}).encode() + b"\n")
            os._exit(1)
        serve(reward, connection, float(sys.argv[3]))
    except ConnectionError:
        os._exit(0)  # the run was over before this process was needed


def fork_on_demand(reward: Reward, control: socket.socket, timeout_seconds: float) -> None:
    """The nursery of rewards that only exist in memory: forked once, early, it forks each worker when asked.

    Commands: b"f" with a descriptor forks a worker on that connection and answers its process id; b"k<pid>\\n" kills
    that worker with everything it started, and answers how it ended. When the other side closes, all workers die.
    """
    children: set[int] = set()
    while True:
        command, descriptors, _, _ = socket.recv_fds(control, 64, 1)
        if not command:
            for child in children:
                end(child)
            return
        if command.startswith(b"f"):
            child = os.fork()
            if child == 0:
                control.close()
                _run_child(reward, descriptors[0], timeout_seconds)
            os.close(descriptors[0])
            children.add(child)
            control.sendall(b"%d\n" % child)
        else:
            child = int(command[1:])
            children.discard(child)
            control.sendall(b"%d\n" % end(child))


def _run_child(reward: Reward, descriptor: int, timeout_seconds: float) -> None:
    code = 1
    try:
        os.setsid()
        faulthandler.disable()  # a crash of the reward is reported as a failure, not as a crash of the run
        serve(reward, socket.socket(fileno=descriptor), timeout_seconds)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def end(child: int) -> int:
    """Kill a child with everything in its process group and reap it; its exit code, negative for a signal."""

    for kill in (os.killpg, os.kill):
        try:
            kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it has no group of its own yet, or ended by itself: reaped below either way
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
