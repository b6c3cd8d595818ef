"""One writer, and no lock that outlives its process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from recorded import fork, wait

from laurel.errors import RunError
from laurel.runs.lock import WriterLock, describe_holder, is_held


def hold(path: Path, ready: int) -> None:
    lock = WriterLock(path)
    os.write(ready, b"!")
    time.sleep(60)
    lock.release()


def test_a_live_writer_is_named_and_a_dead_one_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    reading, writing = os.pipe()
    pid = fork(lambda: hold(path, writing))
    os.read(reading, 1)
    assert is_held(path)
    with pytest.raises(RunError, match=f"process {pid} ") as error:
        WriterLock(path)
    assert error.value.hint is not None
    os.kill(pid, signal.SIGKILL)
    assert wait(pid) == -signal.SIGKILL
    assert not is_held(path)
    lock = WriterLock(path)
    assert f"process {os.getpid()} " in describe_holder(path)
    lock.release()
    lock.release()


def test_a_grader_that_outlives_its_run_does_not_keep_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    reading, writing = os.pipe()

    def run_with_a_grader() -> None:
        lock = WriterLock(path)
        grader = fork(lambda: time.sleep(60))
        os.write(writing, b"%d" % grader)
        time.sleep(60)
        lock.release()

    pid = fork(run_with_a_grader)
    grader = int(os.read(reading, 20))
    assert is_held(path)
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    os.kill(grader, 0)  # it lives
    deadline = time.monotonic() + 10
    while is_held(path) and time.monotonic() < deadline:  # until the grader has come to drop its copy
        time.sleep(0.01)
    assert not is_held(path)
    os.kill(grader, signal.SIGKILL)


def test_a_forked_child_does_not_free_the_lock_of_its_parent(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path / "lock")
    assert wait(fork(lambda: None)) == 0
    assert is_held(tmp_path / "lock")
    lock.release()
    assert not is_held(tmp_path / "lock")


def test_a_holder_that_cannot_be_read_is_still_described(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("{")
    assert describe_holder(tmp_path / "lock") == "another process"
