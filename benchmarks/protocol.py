"""What a step process is told and what it answers: the same for TRL and for Laurel.

A step process (`trl_step.py`, `laurel_step.py`) takes the arguments below, runs `--warmup` and then `--steps` whole
GRPO steps (sampling, reward, learning, optimiser) and prints, as its last line of standard output, one JSON object:
the fields of `Report`.
"""

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class Report:
    """One process's measurements; the lists hold one entry for each timed step, warm-up left out."""

    system: str  # "trl" or "laurel"
    workload: str
    versions: dict[str, str]
    settings: dict[str, object]  # whatever this system chose for itself, for the record
    step_seconds: list[float] = field(default_factory=list)  # whole step, from end of step to end of step
    sampling_seconds: list[float] = field(default_factory=list)  # prompts to scored answers
    cpu_seconds: list[float] = field(default_factory=list)  # of this process, all threads, per whole step
    answer_tokens: list[list[int]] = field(default_factory=list)  # length of each answer, its end token included
    mean_reward: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of every step, warm-up included, so that both can be compared
    gradient_norms: list[float] = field(default_factory=list)  # likewise, before clipping
    resident_before_bytes: int = 0  # model loaded, before the first step
    resident_peak_bytes: int = 0  # highest from there to the end, warm-up included

    def print(self) -> None:
        """The last line of standard output."""
        print(json.dumps(asdict(self)), flush=True)


def arguments(description: str) -> argparse.ArgumentParser:
    """The arguments that every step process takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--model", type=Path, required=True, help="model directory, written by models.py")
    parser.add_argument("--steps", type=int, default=5, help="timed steps")
    parser.add_argument("--warmup", type=int, default=2, help="steps before the first timed one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=1e-6, help="so small that lengths do not drift")
    return parser


def set_threads(count: int) -> None:
    """Fix the number of threads; call it before torch is imported."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(count)


class Meter:
    """Clocks and resident memory of this process, step by step.

    The kernel's high-water mark is set back to the present size when the meter starts, so that the peak of loading
    the libraries and the model is not taken for that of a step.
    """

    def start(self) -> None:
        """Call it when model and data are loaded: the first step counts from here."""
        self._steps: list[tuple[float, float]] = []
        Path("/proc/self/clear_refs").write_text("5")
        self._before_bytes = self._status("VmRSS")
        self._last = self._clocks()

    def step_done(self) -> None:
        """Call it at the end of every step."""
        now = self._clocks()
        self._steps.append((now[0] - self._last[0], now[1] - self._last[1]))
        self._last = now
        self._peak_bytes = self._status("VmHWM")

    def measured(self, warmup: int) -> dict[str, Any]:
        """The fields of `Report` that are measured alike in every process, without the first `warmup` steps."""
        return {
            "step_seconds": [wall for wall, _ in self._steps[warmup:]],
            "cpu_seconds": [processor for _, processor in self._steps[warmup:]],
            "resident_before_bytes": self._before_bytes,
            "resident_peak_bytes": self._peak_bytes,
        }

    @staticmethod
    def _clocks() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    @staticmethod
    def _status(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))
