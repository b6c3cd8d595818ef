"""Laurel beside TRL: whole steps of DPO, of a reward model and of cloning, on the same models, rows and threads.

    benchmarks/setup_trl.sh && python benchmarks/imitation_against_trl.py

Each workload runs in rounds: a fresh TRL process, then a fresh Laurel process. Both learn from the same rows in every
step, so the losses and the norms of the gradients must be the same in every step; where they are not, nothing is
written. Prints a table and writes everything that was measured under `benchmarks/results/`.
"""

import argparse

from imitation_workloads import IMITATION, ImitationWorkload
from report import memory, print_side_by_side
from side_by_side import (
    arguments,
    compare,
    require_trl,
    run_step_process,
    step_commands,
    summarise,
    turns,
    written_results,
)

COMMANDS = step_commands("imitation_")
RESULTS = "imitation"
LEARNING_RATE = 1e-5
"""Large enough that the losses of later steps would show another gradient."""
MOST_APART = {"losses": 1e-4, "gradient_norms": 1e-4}
"""How far, in parts of the value, the two systems may be from each other in any step."""


def apart(one: list[float], other: list[float]) -> float:
    """The greatest distance of two series, step by step, in parts of the value."""
    return max(abs(a - b) / abs(b) for a, b in zip(one, other, strict=True))


def measure(workload: ImitationWorkload, options: argparse.Namespace) -> dict:
    """All rounds of one workload.

    Raises RuntimeError where the two systems did not do the same work.
    """
    reports: dict[str, list[dict]] = {system: [] for system in COMMANDS}
    rate = ("--learning-rate", str(LEARNING_RATE))
    for _, system in turns(workload.method, list(COMMANDS), options.rounds):
        reports[system].append(run_step_process(COMMANDS[system], workload.method, workload.model, options, *rate))
    systems = {system: summarise(runs) for system, runs in reports.items()}
    result = {
        "systems": systems,
        **compare(**systems),
        "speed_by_processor_seconds": systems["trl"]["cpu_seconds"] / systems["laurel"]["cpu_seconds"],
        "apart": {key: apart(reports["laurel"][0][key], reports["trl"][0][key]) for key in MOST_APART},
    }
    for key, most in MOST_APART.items():
        if not result["apart"][key] <= most:
            raise RuntimeError(f"{workload.method}: the {key} of the two systems are {result['apart'][key]:.1e} apart.")
    return result | {"reports": reports}


def cells(summary: dict) -> list[str]:
    """The figures of one system on one workload."""
    return [f"{summary['step_seconds']:.3f}", f"{summary['cpu_seconds']:.3f}", memory(summary)]


def verdict(name: str, workload: dict) -> str:
    """The comparison of one workload with what is wanted."""
    return (
        f"{name}: Laurel {workload['speed']:.2f} times faster (wanted {IMITATION[name].wanted_speed:g}; "
        f"{workload['speed_by_processor_seconds']:.2f} by processor seconds), {workload['memory']:.0%} of the peak "
        f"memory above start, {workload['memory_whole_process']:.0%} of the whole process; losses "
        f"{workload['apart']['losses']:.0e} and gradients' norms {workload['apart']['gradient_norms']:.0e} apart"
    )


def main() -> None:
    """Measure the chosen workloads, print the table, write the results."""
    parser = arguments(__doc__.splitlines()[0], IMITATION, rounds=2, steps=3, results=RESULTS)
    options = parser.parse_args()
    require_trl(parser)
    results = written_results(options, RESULTS, lambda name: measure(IMITATION[name], options))
    headings = ("step s", "processor s", "peak MiB (above start)")
    print_side_by_side(results, "Whole steps", headings, cells, verdict)


if __name__ == "__main__":
    main()
