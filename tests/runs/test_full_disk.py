"""A full disk ends the run with the reason, and everything written before it stays usable."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from recorded import credit_of, fork, game, wait

import laurel
from laurel.errors import RunError
from laurel.metrics import Metric
from laurel.runs import Run, checkpoints


def record(run: Run, step: int) -> None:
    trees = [game(f"{step}.{place}") for place in range(40)]
    run.record_step(step, trees, [credit_of(tree) for tree in trees], {"reward": Metric(step, 1)}, {})


def save(run: Run, step: int, size: int) -> Path:
    return run.save_checkpoint(step, {"policy": {"weights": torch.arange(size) + step}}, {"step": step})


def limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_database_that_cannot_grow_keeps_all_recorded_steps(tmp_path: Path) -> None:
    directory, last = tmp_path / "run", tmp_path / "last"

    def until_full() -> None:
        with Run.create(directory, {}) as run:
            save(run, 0, 10)
            for step in range(1, 1000):
                record(run, step)
                last.write_text(str(step))

    def fill() -> None:
        limit_files(300_000)
        with pytest.raises(RunError, match=r"run\.sqlite(.|\n)*then resume"):
            until_full()

    assert wait(fork(fill)) == 0
    steps = int(last.read_text())
    assert steps > 1
    with Run.open(directory) as run:
        assert run.steps() == list(range(1, steps + 1))
        assert len(run.trees(steps)) == 40
        checkpoint = run.load_checkpoint()
        assert checkpoint is not None and checkpoint.step == 0
    with Run.resume(directory) as resumed:  # with room again
        record(resumed, 1)
        assert resumed.steps() == [1]


def test_a_checkpoint_that_does_not_fit_leaves_the_last_one_whole(tmp_path: Path) -> None:
    directory = tmp_path / "run"

    def fill() -> None:
        limit_files(2_000_000)
        with Run.create(directory, {}) as run:
            record(run, 1)
            save(run, 1, 1000)
            record(run, 2)
            with pytest.raises(RunError, match="File too large") as error:
                save(run, 2, 1_000_000)
            assert "resume from the checkpoint of step 1, which is intact" in str(error.value)
            record(run, 3)

    assert wait(fork(fill)) == 0
    assert [entry.name for entry in (directory / checkpoints.FOLDER).iterdir()] == ["step-000001"]
    with Run.open(directory) as run:
        assert run.steps() == [1, 2, 3]
        checkpoint = run.load_checkpoint()
        assert checkpoint is not None and checkpoint.step == 1 and checkpoint.notes == ()
        assert torch.equal(checkpoint.tensors["policy"]["weights"], torch.arange(1000) + 1)


PROGRAM = """
import os, sys
from pathlib import Path
from test_full_disk import record, save
from laurel.errors import RunError
from laurel.runs import Run
run = Run.create(Path(sys.argv[1]) / "run", {})
record(run, 1)
save(run, 1, 1000)
try:
    save(run, 2, 1_000_000)
except RunError as error:
    print(error)
try:
    for step in range(2, 1000):
        record(run, step)
except RunError as error:
    print(error)
    print("recorded all but", step - run.steps()[-1])
run.close()
with Run.open(Path(sys.argv[1]) / "run") as run:
    print("whole", run.load_checkpoint().step, len(run.trees(run.steps()[-1])))
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=3m tmpfs {tmp_path}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    paths = f"PYTHONPATH={Path(__file__).parent}:{Path(laurel.__file__).parents[1]}"
    command = f'{mount} && exec env {paths} "$0" -c "$1" {tmp_path}'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, sys.executable, PROGRAM], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stdout and "the checkpoint of step 1, which is intact" in done.stdout
    assert "database or disk is full" in done.stdout and "free some space, then resume" in done.stdout
    assert "recorded all but 1" in done.stdout and "whole 1 40" in done.stdout
