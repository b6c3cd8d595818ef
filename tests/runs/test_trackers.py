"""Metrics told to other tools; each test uses the real package and is skipped, saying so, without it."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import laurel
from laurel.errors import ConfigurationError, MissingExtraError
from laurel.metrics import Metric
from laurel.runs import TRACKERS, Run, Trackers, open_trackers


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed (extra 'track')")


def test_an_unknown_tracker_names_the_nearest(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run, pytest.raises(ConfigurationError, match="'tensorboard'"):
        open_trackers(["tensorbord"], run)


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, name: str) -> None:
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    with Run.create(tmp_path / "run", {}) as run, pytest.raises(MissingExtraError, match=rf"'{name}'.*\n.*\[track\]"):
        open_trackers([name], run)


class Breaking:
    """A service that goes away after one step."""

    name = "breaking"

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if self.told:
            raise ConnectionError("gone")
        self.told.append((step, dict(values)))

    def close(self) -> None:
        raise AssertionError("a tracker that failed is left out")


def test_a_failing_tracker_is_left_out_with_an_event(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        tracker = Breaking()
        with Trackers([tracker], run) as trackers:
            for step in (1, 2, 3):
                trackers.log(step, {"reward": Metric(3, 4)}, {"seconds": 0.5})
    assert tracker.told == [(1, {"reward": 0.75, "seconds": 0.5})]
    (event,) = run.events("warning")
    assert event.step == 2 and "breaking" in event.text and "gone" in event.text


@needs("tensorboard")
def test_tensorboard_holds_every_step_once_after_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Run.create(tmp_path / "run", {}) as run, open_trackers(["tensorboard"], run) as trackers:
        for step in (1, 2, 3):
            run.record_step(step, [], [], {}, {})
            trackers.log(step, {"reward": Metric(step, 2)})
            if step == 1:
                run.save_checkpoint(1, {}, {})
    with Run.resume(tmp_path / "run") as run, open_trackers(["tensorboard"], run) as trackers:
        trackers.log(2, {"reward": Metric(2, 2)})
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward")] == [(1, 0.5), (2, 1.0)]


PROGRAM = """
import sys
from laurel.metrics import Metric
from laurel.runs import Run, open_trackers
with Run.create(sys.argv[1], {"seed": 3}) as run, open_trackers([sys.argv[2]], run) as trackers:
    for step in (1, 2):
        trackers.log(step, {"reward": Metric(step, 4)})
print(f"\\n{run.id} saw {[event.text for event in run.events()]}")
"""


def run_program(directory: Path, name: str, **settings: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(Path(laurel.__file__).parents[1])} | settings
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory / "run"), name],
        check=False, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if " saw " in line]
    identity, events = line.split(" saw ")
    assert events == "[]"
    return identity


@needs("wandb")
def test_wandb_offline(tmp_path: Path) -> None:
    identity = run_program(tmp_path, "wandb", WANDB_MODE="offline", WANDB_SILENT="true")
    (written,) = (tmp_path / "run" / "wandb").glob(f"offline-run-*-run-{identity}/*.wandb")
    assert b"reward" in written.read_bytes()


@needs("trackio")
def test_trackio_on_this_machine(tmp_path: Path) -> None:
    identity = run_program(tmp_path, "trackio", TRACKIO_DIR=str(tmp_path), HF_HUB_OFFLINE="1")
    connection = sqlite3.connect(tmp_path / "laurel.db")
    rows = connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    connection.close()
    assert [(name, step) for name, step, _ in rows] == [(f"run-{identity}", 1), (f"run-{identity}", 2)]
    assert [json.loads(metrics)["reward"] for _, _, metrics in rows] == [0.25, 0.5]
