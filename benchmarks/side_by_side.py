"""What both comparisons with TRL share: rounds of fresh step processes, figures of any step, and where results go.

`against_trl.py` and `imitation_against_trl.py` add their workloads, the figures of their own steps and their tables.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from models import write
from protocol import set_threads

HERE = Path(__file__).resolve().parent
TRL_PYTHON = HERE / ".trl-venv" / "bin" / "python"
MODELS = HERE / ".models"


def step_commands(prefix: str = "") -> dict[str, list[str]]:
    """How each system's step process is started: TRL's in its own environment, Laurel's in this one."""
    return {
        "trl": [str(TRL_PYTHON), str(HERE / f"{prefix}trl_step.py")],
        "laurel": [sys.executable, str(HERE / f"{prefix}laurel_step.py")],
    }


def arguments(
    description: str, workloads: Collection[str], *, rounds: int, steps: int, results: str
) -> argparse.ArgumentParser:
    """The arguments that both comparisons take; `results` begins the name of the file that is written."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workloads", nargs="+", choices=workloads, default=list(workloads))
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--steps", type=int, default=steps, help="timed steps in each round")
    parser.add_argument("--warmup", type=int, default=2, help="steps in each round before the timed ones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help=f"default: benchmarks/results/{results}-<date>.json")
    return parser


def require_trl(parser: argparse.ArgumentParser) -> None:
    """Stop with what to do where TRL's environment was not made."""
    if not TRL_PYTHON.exists():
        parser.error("TRL is not there: run benchmarks/setup_trl.sh first")


def turns(workload: str, systems: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """The number of the round and the system whose turn it is: every system once in each round."""
    for number in range(rounds):
        for system in systems:
            print(f"{workload}: round {number + 1} of {rounds}, {system}", file=sys.stderr)
            yield number, system


def run_step_process(
    command: Sequence[str], workload: str, model: str, options: argparse.Namespace, *more: str
) -> dict:
    """One step process; its report (see `protocol.py`).

    Args:
        command: one of `step_commands`.
        model: the directory that `models.py` writes.
        more: further arguments of the process.

    Raises:
        RuntimeError: the process failed; with the end of its error output.
    """
    told = ["--workload", workload, "--model", str(MODELS / model)]
    for name in ("steps", "warmup", "threads"):
        told += [f"--{name}", str(getattr(options, name))]
    finished = subprocess.run([*command, *told, *more], capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"{Path(command[-1]).name} failed on {workload}:\n{finished.stderr[-3000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def summarise(reports: Sequence[dict]) -> dict:
    """Medians over the timed steps of all rounds of one system; the highest of the peaks."""
    steps = [seconds for report in reports for seconds in report["step_seconds"]]
    return {
        "timed_steps": len(steps),
        "step_seconds": median(steps),
        "cpu_seconds": median(seconds for report in reports for seconds in report["cpu_seconds"]),
        "peak_bytes": max(report["resident_peak_bytes"] for report in reports),
        "peak_above_start_bytes": max(
            report["resident_peak_bytes"] - report["resident_before_bytes"] for report in reports
        ),
        "versions": reports[0]["versions"],
        "settings": reports[0]["settings"],
    }


def compare(trl: dict, laurel: dict) -> dict:
    """How many times faster Laurel is, and its peak memory as a part of TRL's, without and with what was there."""
    return {
        "speed": trl["step_seconds"] / laurel["step_seconds"],
        "memory": laurel["peak_above_start_bytes"] / trl["peak_above_start_bytes"],
        "memory_whole_process": laurel["peak_bytes"] / trl["peak_bytes"],
    }


def surroundings(options: argparse.Namespace) -> dict:
    """The device, the code and the moment."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or "not committed",
        "device": f"{processor}, {os.cpu_count()} cores",
        "threads": options.threads,
        "load_average_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "rounds": options.rounds,
        "steps_per_round": options.steps,
        "warmup_steps_per_round": options.warmup,
    }


def written_results(options: argparse.Namespace, results: str, measure: Callable[[str], dict]) -> dict:
    """Measure every chosen workload, by name, and write all of it where the arguments say."""
    set_threads(options.threads)
    write(MODELS)
    around = surroundings(options)
    found = {"surroundings": around, "workloads": {name: measure(name) for name in options.workloads}}
    output = options.output or HERE / "results" / f"{results}-{around['date'][:10]}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(found, indent=1) + "\n")
    return found
