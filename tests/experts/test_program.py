"""A program is asked by standard input, answers by standard output, and is really killed at its deadline."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from laurel.errors import ConfigurationError
from laurel.experts import NoReply, Program, Question, Replied
from laurel.tasks import Task


def question(number: int = 0) -> Question:
    task = Task(f"{number}", "guess:", "5", {"level": number})
    return Question(f"1.{number}.0", task, ("guess:", "3", "higher:"), np.array([1, 2, 3]))


def python(code: str, **settings: float) -> Program:
    return Program((sys.executable, "-c", code), **settings)  # type: ignore[arg-type]


def reason(program: Program) -> str:
    (reply,) = program.replies([question()])
    assert isinstance(reply, NoReply)
    return reply.reason


def test_it_reads_the_task_and_the_dialogue_and_answers_in_order() -> None:
    program = python("import json, sys; print(json.dumps(json.load(sys.stdin)))", at_once=2)
    replies = program.replies([question(number) for number in range(5)])
    for number, reply in enumerate(replies):
        assert isinstance(reply, Replied)
        assert json.loads(reply.text) == {
            "id": f"{number}",
            "prompt": "guess:",
            "reference": "5",
            "data": {"level": number},
            "dialogue": ["guess:", "3", "higher:"],
        }


def test_one_newline_at_the_end_is_not_part_of_the_answer() -> None:
    (reply,) = python("print('4\\n')").replies([question()])
    assert isinstance(reply, Replied) and reply.text == "4\n"


def test_a_program_that_reads_nothing_is_no_fault() -> None:
    (reply,) = python("print(7)").replies([question()])
    assert isinstance(reply, Replied) and reply.text == "7"


def test_failures_say_why() -> None:
    assert reason(python("raise ValueError('no such state')")).endswith("ended with 1: ValueError: no such state")
    assert reason(python("import os; os.kill(os.getpid(), 9)")).endswith("ended with -9: no message")
    assert "no UTF-8" in reason(python("import sys; sys.stdout.buffer.write(bytes([255]))"))
    assert "wrote more than" in reason(python("while True: print('x' * 65536)"))


def test_at_its_deadline_it_is_killed_with_everything_that_it_started(tmp_path: Path) -> None:
    """Also a child that closed its output, and one that does not listen to SIGTERM."""
    code = f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(tmp_path / "pids")!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
time.sleep(600)
"""
    started = time.monotonic()
    assert "did not answer within 1.5 seconds, and was killed" in reason(python(code, timeout_seconds=1.5))
    assert time.monotonic() - started < 10
    for process in map(int, (tmp_path / "pids").read_text().split()):
        for _ in range(100):
            if _gone(process):
                break
            time.sleep(0.05)
        assert _gone(process)


def test_what_closes_its_output_and_goes_on_is_killed_too() -> None:
    code = "import os, time; os.close(1); os.close(2); time.sleep(600)"
    assert "did not end within 0.5 seconds" in reason(python(code, timeout_seconds=0.5))


def test_what_it_leaves_behind_is_gone_when_it_has_answered(tmp_path: Path) -> None:
    code = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=-3, stderr=-3)
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
print("done")
"""
    (reply,) = python(code).replies([question()])
    assert isinstance(reply, Replied) and reply.text == "done"
    process = int((tmp_path / "pid").read_text())
    time.sleep(0.2)
    assert _gone(process)


def _gone(process: int) -> bool:
    """Not there, or a zombie that nobody has collected yet."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"command": ()}, "must be a list of texts"),
        ({"command": "solver --fast"}, "must be a list of texts"),
        ({"command": ("no-such-program-here",)}, "is not there"),
        ({"command": (sys.executable,), "timeout_seconds": 0}, "timeout_seconds"),
        ({"command": (sys.executable,), "at_once": 0}, "at_once"),
    ],
)
def test_what_cannot_be_asked(settings: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Program(**settings)  # type: ignore[arg-type]
