"""Laurel beside TRL: whole steps of DPO, of a reward model and of cloning, on the same models, rows and threads.

    benchmarks/setup_trl.sh && python benchmarks/imitation_against_trl.py

Each workload runs in rounds: a fresh TRL process, then a fresh Laurel process. Both learn from the same rows in every
step, so the losses and the norms of the gradients must be the same in every step; where they are not, nothing is
written. Prints a table and writes everything that was measured under `benchmarks/results/`.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from against_trl import HERE, MODELS, TRL_PYTHON, surroundings
from imitation_workloads import IMITATION, ImitationWorkload
from models import write
from protocol import set_threads
from rich.console import Console
from rich.table import Table

COMMANDS = {
    "trl": [str(TRL_PYTHON), str(HERE / "imitation_trl_step.py")],
    "laurel": [sys.executable, str(HERE / "imitation_laurel_step.py")],
}
LEARNING_RATE = 1e-5
"""Large enough that the losses of later steps would show another gradient."""
MOST_APART = {"losses": 1e-4, "gradient_norms": 1e-4}
"""How far, in parts of the value, the two systems may be from each other in any step."""
MEBIBYTE = 2**20


def run_step_process(system: str, workload: ImitationWorkload, options: argparse.Namespace) -> dict:
    """One process of `system`; its report (see `protocol.py`).

    Raises RuntimeError with the end of the process's error output when it fails.
    """
    command = [*COMMANDS[system], "--workload", workload.method, "--model", str(MODELS / workload.model)]
    for name in ("steps", "warmup", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    command += ["--learning-rate", str(LEARNING_RATE)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"{system} failed on {workload.method}:\n{finished.stderr[-3000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def summarise(reports: list[dict]) -> dict:
    """Medians over the timed steps of all rounds; the highest of the peaks."""
    return {
        "timed_steps": sum(len(report["step_seconds"]) for report in reports),
        "step_seconds": median(seconds for report in reports for seconds in report["step_seconds"]),
        "cpu_seconds": median(seconds for report in reports for seconds in report["cpu_seconds"]),
        "peak_bytes": max(report["resident_peak_bytes"] for report in reports),
        "peak_above_start_bytes": max(
            report["resident_peak_bytes"] - report["resident_before_bytes"] for report in reports
        ),
        "versions": reports[0]["versions"],
        "settings": reports[0]["settings"],
    }


def apart(one: list[float], other: list[float]) -> float:
    """The greatest distance of two series, step by step, in parts of the value."""
    return max(abs(a - b) / abs(b) for a, b in zip(one, other, strict=True))


def measure(workload: ImitationWorkload, options: argparse.Namespace) -> dict:
    """All rounds of one workload.

    Raises RuntimeError where the two systems did not do the same work.
    """
    reports: dict[str, list[dict]] = {system: [] for system in COMMANDS}
    for number in range(options.rounds):
        for system in COMMANDS:
            print(f"{workload.method}: round {number + 1} of {options.rounds}, {system}", file=sys.stderr)
            reports[system].append(run_step_process(system, workload, options))
    trl, laurel = (summarise(reports[system]) for system in ("trl", "laurel"))
    result = {
        "systems": {"trl": trl, "laurel": laurel},
        "speed": trl["step_seconds"] / laurel["step_seconds"],
        "speed_by_processor_seconds": trl["cpu_seconds"] / laurel["cpu_seconds"],
        "memory": laurel["peak_above_start_bytes"] / trl["peak_above_start_bytes"],
        "memory_whole_process": laurel["peak_bytes"] / trl["peak_bytes"],
        "apart": {key: apart(reports["laurel"][0][key], reports["trl"][0][key]) for key in MOST_APART},
    }
    for key, most in MOST_APART.items():
        if not result["apart"][key] <= most:
            raise RuntimeError(f"{workload.method}: the {key} of the two systems are {result['apart'][key]:.1e} apart.")
    return result | {"reports": reports}


def print_table(results: dict) -> None:
    """One row for each workload and system, then one line for each comparison."""
    around, console = results["surroundings"], Console()
    table = Table(title=f"Whole steps on {around['device']}, {around['threads']} threads, fp32")
    for heading in ("workload", "system", "step s", "processor s", "peak MiB (above start)"):
        table.add_column(heading, justify="left" if heading in ("workload", "system") else "right")
    for name, workload in results["workloads"].items():
        for system, summary in workload["systems"].items():
            above, peak = (summary[key] / MEBIBYTE for key in ("peak_above_start_bytes", "peak_bytes"))
            seconds = (f"{summary['step_seconds']:.3f}", f"{summary['cpu_seconds']:.3f}")
            table.add_row(name, system, *seconds, f"{peak:.0f} ({above:.0f})")
    console.print(table)
    for name, workload in results["workloads"].items():
        console.print(
            f"{name}: Laurel {workload['speed']:.2f} times faster (wanted {IMITATION[name].wanted_speed:g}; "
            f"{workload['speed_by_processor_seconds']:.2f} by processor seconds), {workload['memory']:.0%} of the peak "
            f"memory above start, {workload['memory_whole_process']:.0%} of the whole process; losses "
            f"{workload['apart']['losses']:.0e} and gradients' norms {workload['apart']['gradient_norms']:.0e} apart"
        )
    if around["load_average_at_start"] > 1:
        console.print("The machine was busy: compare processor seconds only, and measure again.", style="bold red")


def main() -> None:
    """Measure the chosen workloads, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", choices=IMITATION, default=list(IMITATION))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="timed steps in each round")
    parser.add_argument("--warmup", type=int, default=2, help="steps in each round before the timed ones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/imitation-<date>.json")
    options = parser.parse_args()
    if not TRL_PYTHON.exists():
        parser.error("TRL is not there: run benchmarks/setup_trl.sh first")
    set_threads(options.threads)
    write(MODELS)
    results = {"surroundings": surroundings(options)}
    results["workloads"] = {name: measure(IMITATION[name], options) for name in options.workloads}
    output = options.output or HERE / "results" / f"imitation-{results['surroundings']['date'][:10]}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n")
    print_table(results)


if __name__ == "__main__":
    main()
