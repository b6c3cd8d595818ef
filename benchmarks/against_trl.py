"""Laurel beside TRL: whole GRPO steps on the same models, prompts, sampling and threads.

    benchmarks/setup_trl.sh && python benchmarks/against_trl.py

Each workload runs in rounds: a fresh TRL process, then a fresh Laurel process, so that a slow spell of the machine
meets both. Prints a table and writes everything that was measured under `benchmarks/results/`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from floor import matrix_rate, step_operations
from models import write
from protocol import set_threads
from report import print_table
from workloads import WORKLOADS, Workload

HERE = Path(__file__).resolve().parent
TRL_PYTHON = HERE / ".trl-venv" / "bin" / "python"
MODELS = HERE / ".models"
COMMANDS = {
    "trl": [str(TRL_PYTHON), str(HERE / "trl_step.py")],
    "laurel": [sys.executable, str(HERE / "laurel_step.py")],
}


def run_step_process(system: str, workload: Workload, options: argparse.Namespace, seed: int) -> dict:
    """One process of `system`; its report (see `protocol.py`).

    Raises RuntimeError with the end of the process's error output when it fails.
    """
    command = [*COMMANDS[system], "--workload", workload.name, "--model", str(MODELS / workload.model)]
    for name in ("steps", "warmup", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    finished = subprocess.run([*command, "--seed", str(seed)], capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"{system} failed on {workload.name}:\n{finished.stderr[-3000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def summarise(reports: list[dict]) -> dict:
    """Medians and spread over the timed steps of all rounds; the highest of the peaks."""
    steps = [seconds for report in reports for seconds in report["step_seconds"]]
    sampling = [seconds for report in reports for seconds in report["sampling_seconds"]]
    lengths = [length for report in reports for step in report["answer_tokens"] for length in step]
    return {
        "timed_steps": len(steps),
        "step_seconds": median(steps),
        "step_seconds_range": [min(steps), max(steps)],
        "sampling_seconds": median(sampling),
        "learning_seconds": median(whole - part for whole, part in zip(steps, sampling, strict=True)),
        "cpu_seconds": median(seconds for report in reports for seconds in report["cpu_seconds"]),
        "mean_answer_tokens": sum(lengths) / len(lengths),
        "peak_bytes": max(report["resident_peak_bytes"] for report in reports),
        "peak_above_start_bytes": max(
            report["resident_peak_bytes"] - report["resident_before_bytes"] for report in reports
        ),
    }


def measure(workload: Workload, options: argparse.Namespace) -> dict:
    """All rounds of one workload: a summary for each system, and the floor under both."""
    reports: dict[str, list[dict]] = {system: [] for system in options.systems}
    rates = []
    for round_number in range(options.rounds):
        for system in options.systems:
            print(f"{workload.name}: round {round_number + 1} of {options.rounds}, {system}", file=sys.stderr)
            rates.append(matrix_rate(options.threads))
            reports[system].append(run_step_process(system, workload, options, seed=round_number))
    result = {"matrix_operations_per_second": max(rates), "systems": {}}
    for system, runs in reports.items():
        operations = median(
            step_operations(MODELS / workload.model, workload, lengths)
            for report in runs
            for lengths in report["answer_tokens"]
        )
        floor_seconds = operations / max(rates)
        summary = summarise(runs) | {"floor_operations": operations, "floor_seconds": floor_seconds}
        summary["times_floor"] = summary["step_seconds"] / floor_seconds
        result["systems"][system] = summary | {"versions": runs[0]["versions"], "settings": runs[0]["settings"]}
    if set(reports) == set(COMMANDS):
        result |= compare(**{system: result["systems"][system] for system in COMMANDS})
    return result | {"reports": reports}


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


def main() -> None:
    """Measure the chosen workloads, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--systems", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="timed steps in each round")
    parser.add_argument("--warmup", type=int, default=2, help="steps in each round before the timed ones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/against_trl-<date>.json")
    options = parser.parse_args()
    if "trl" in options.systems and not TRL_PYTHON.exists():
        parser.error("TRL is not there: run benchmarks/setup_trl.sh first")
    set_threads(options.threads)
    write(MODELS)
    results = {"surroundings": surroundings(options)}
    results["workloads"] = {name: measure(WORKLOADS[name], options) for name in options.workloads}
    output = options.output or HERE / "results" / f"against_trl-{results['surroundings']['date'][:10]}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n")
    print_table(results)


if __name__ == "__main__":
    main()
