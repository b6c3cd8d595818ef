"""Killed at any moment and resumed, a run equals one that was not: digest, weights, evaluations."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from recorded import STEPS, die_at, fork, toy_loop, wait

from laurel.runs import Run, checkpoints, is_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return toy_loop(tmp_path_factory.mktemp("whole") / "run")


def fingerprint(run: Run) -> tuple[object, ...]:
    # Killed between the last rename and the removal of what is too old, a run keeps one checkpoint more.
    newest = run.checkpoint_steps[-checkpoints.KEEP :]
    places = [checkpoints.place_of(run.directory / checkpoints.FOLDER, step) for step in newest]
    return run.digest(), newest, [checkpoints.hashes(place) for place in places], run.evaluations()


@pytest.mark.parametrize(
    "moment",
    [
        "after_evaluation:0",
        "in_record:1",
        "in_checkpoint_write:2",
        "before_rename:2",
        "after_rename:2",
        "before_record:3",
        "in_record:3",
        "after_record:4",
        "after_evaluation:4",
        "in_checkpoint_write:4",
        "before_rename:4",
        "after_rename:4",
        "after_checkpoint:4",
        "after_rename:6",
        "before_finish:6",
    ],
)
def test_killed_at_a_named_moment(whole: Run, tmp_path: Path, moment: str) -> None:
    directory = tmp_path / "run"
    die_at(moment, lambda: toy_loop(directory))
    killed = Run.open(directory)
    assert killed.status.state == "interrupted"
    killed.close()
    resumed = toy_loop(directory, resume=True)
    assert fingerprint(resumed) == fingerprint(whole)
    assert resumed.status.state == "finished"
    assert [event.step for event in resumed.events("note")] == list(range(1, STEPS + 1))
    assert len(resumed.events("resumed")) == 1
    assert not list((directory / checkpoints.FOLDER).glob(".*"))


def test_killed_while_resuming(whole: Run, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    die_at("after_record:5", lambda: toy_loop(directory))
    die_at("in_rewind:4", lambda: toy_loop(directory, resume=True))
    with Run.open(directory) as killed:
        assert killed.steps() == [1, 2, 3, 4, 5]
    assert fingerprint(toy_loop(directory, resume=True)) == fingerprint(whole)


def test_killed_at_random_moments(whole: Run, tmp_path: Path) -> None:
    directory, draw, deaths, longest = tmp_path / "run", random.Random(4), 0, 0.3
    for _ in range(20):
        pid = fork(lambda: toy_loop(directory, resume=True))
        time.sleep(draw.uniform(0.0, longest))
        os.kill(pid, signal.SIGKILL)
        if wait(pid) == 0:
            if deaths:
                break
            # A fast machine was done before the first kill: once more, with less time.
            shutil.rmtree(directory)
            longest /= 2
            continue
        deaths += 1
        if is_run(directory):
            with Run.open(directory) as killed:
                assert all(len(killed.trees(step)) == 3 for step in killed.steps())
    assert deaths > 0
    assert fingerprint(toy_loop(directory, resume=True)) == fingerprint(whole)


def test_resuming_a_finished_run_changes_nothing(whole: Run, tmp_path: Path) -> None:
    toy_loop(tmp_path / "run")
    assert fingerprint(toy_loop(tmp_path / "run", resume=True)) == fingerprint(whole)
