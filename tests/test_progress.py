"""What is shown: plain lines into a file, a bar and a status line that fit on a terminal."""

from __future__ import annotations

import io
import re

from rich.console import Console

from laurel.metrics import Metric
from laurel.progress import Silent, Terminal, status_line

METRICS = {
    "reward": Metric(2, 8),
    "answer_tokens": Metric(1234, 8),
    "entropy": Metric(8, 8),
    "failed": Metric(3, 8),
    "distinct_tokens": Metric(246_912, 1),
}
STATUS = "reward 0.250  length 154.2  entropy 1.000  3 failed  123,456 tok/s"


def test_the_status_leaves_out_what_was_not_measured() -> None:
    assert status_line(METRICS, {"gather_seconds": 1.5, "learn_seconds": 0.5}) == STATUS
    assert status_line({"reward": Metric(0, 0)}, {"gather_seconds": 1.0}) == ""
    assert status_line({**METRICS, "failed": Metric(0, 8)}, {}) == "reward 0.250  length 154.2  entropy 1.000"


def test_a_file_gets_few_plain_lines() -> None:
    out = io.StringIO()
    shown = Terminal(Console(file=out, width=40))
    with shown.of("grpo", 50):
        for step in range(11, 51):  # resumed after step 10
            shown.step(step, METRICS, {"seconds": 2.0})
    lines = out.getvalue().splitlines()
    # The first and the last step only, since none of this took seconds; not wrapped at the width.
    assert [line.split("  ")[1] for line in lines[1:]] == ["step 11/50", "step 50/50"]
    assert lines[0] == "grpo: 50 steps"
    assert lines[2] == f"  step 50/50  {STATUS}  0:00:00 left"


def test_a_terminal_of_eighty_columns_shows_a_bar_and_the_whole_status() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None, legacy_windows=False)
    shown = Terminal(console)
    for name in ("grpo", "reinforce_plus_plus"):  # one view serves one run after the other
        with shown.of(name, 250):
            shown.step(101, METRICS, {"seconds": 2.0})
            shown.step(102, METRICS, {"seconds": 2.0})
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n").splitlines()
        bar = next(line for line in reversed(plain) if "102/250" in line)
        assert bar.startswith(name) and "left" in bar and len(bar) <= 80
        assert f"  {STATUS}" in [line.rstrip() for line in plain]


def test_silence() -> None:
    shown = Silent()
    with shown.of("grpo", 5):
        shown.step(1, METRICS, {})
