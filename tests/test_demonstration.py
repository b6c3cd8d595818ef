"""Where a demo keeps its runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import laurel
from laurel.demonstration import _free


def test_a_demo_never_touches_an_earlier_one_and_keeps_the_whole_name(tmp_path: Path) -> None:
    wanted = tmp_path / "my-demo-x"
    for name in ("my-demo-x", "my-demo-x-2", "my-demo-x-3"):
        free = _free(wanted)
        assert free == tmp_path / name
        free.mkdir()


def test_an_interrupted_demo_says_where_it_is_and_goes_on(tmp_path: Path) -> None:
    """Ctrl-C in the middle of cloning, really: SIGINT to a process of its own."""
    command = [sys.executable, "-m", "laurel", "demo", "--run", "mine", "--seed", "3"]
    environment = {**os.environ, "PYTHONPATH": str(Path(laurel.__file__).parents[1])}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    started = tmp_path / "mine" / "clone" / "run.sqlite"
    while process.poll() is None and not (started.exists() and steps(started.parent)):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert "Interrupted. What was done is kept in mine. Go on with: laurel demo --run mine --seed 3 --resume" in out
    assert "Traceback" not in out + err
    with laurel.Run.open(started.parent) as run:
        assert run.status.state == "interrupted"


def steps(directory: Path) -> list[int]:
    try:
        with laurel.Run.open(directory) as run:
            return run.steps()
    except laurel.LaurelError:  # not made yet
        return []
