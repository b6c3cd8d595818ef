"""Laurel beside TRL: whole GRPO steps on the same models, prompts, sampling and threads.

    benchmarks/setup_trl.sh && python benchmarks/against_trl.py

Each workload runs in rounds: a fresh TRL process, then a fresh Laurel process, so that a slow spell of the machine
meets both. Prints a table and writes everything that was measured under `benchmarks/results/`.
"""

import argparse
from statistics import median

from floor import matrix_rate, step_operations
from report import print_table
from side_by_side import (
    MODELS,
    arguments,
    compare,
    require_trl,
    run_step_process,
    step_commands,
    summarise,
    turns,
    written_results,
)
from workloads import WORKLOADS, Workload

COMMANDS = step_commands()
RESULTS = "against_trl"


def sampling_figures(reports: list[dict]) -> dict:
    """What is known of sampling beside learning, over the timed steps of all rounds of one system."""
    steps = [seconds for report in reports for seconds in report["step_seconds"]]
    sampling = [seconds for report in reports for seconds in report["sampling_seconds"]]
    lengths = [length for report in reports for step in report["answer_tokens"] for length in step]
    return {
        "step_seconds_range": [min(steps), max(steps)],
        "sampling_seconds": median(sampling),
        "learning_seconds": median(whole - part for whole, part in zip(steps, sampling, strict=True)),
        "mean_answer_tokens": sum(lengths) / len(lengths),
    }


def measure(workload: Workload, options: argparse.Namespace) -> dict:
    """All rounds of one workload: a summary for each system, and the floor under both."""
    reports: dict[str, list[dict]] = {system: [] for system in options.systems}
    rates = []
    for number, system in turns(workload.name, options.systems, options.rounds):
        rates.append(matrix_rate(options.threads))
        seed = ("--seed", str(number))
        reports[system].append(run_step_process(COMMANDS[system], workload.name, workload.model, options, *seed))
    result = {"matrix_operations_per_second": max(rates), "systems": {}}
    for system, runs in reports.items():
        operations = median(
            step_operations(MODELS / workload.model, workload, lengths)
            for report in runs
            for lengths in report["answer_tokens"]
        )
        floor_seconds = operations / max(rates)
        summary = summarise(runs) | sampling_figures(runs)
        floor = {"floor_operations": operations, "floor_seconds": floor_seconds}
        result["systems"][system] = summary | floor | {"times_floor": summary["step_seconds"] / floor_seconds}
    if set(reports) == set(COMMANDS):
        result |= compare(**{system: result["systems"][system] for system in COMMANDS})
    return result | {"reports": reports}


def main() -> None:
    """Measure the chosen workloads, print the table, write the results."""
    parser = arguments(__doc__.splitlines()[0], WORKLOADS, rounds=3, steps=2, results=RESULTS)
    parser.add_argument("--systems", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    options = parser.parse_args()
    if "trl" in options.systems:
        require_trl(parser)
    print_table(written_results(options, RESULTS, lambda name: measure(WORKLOADS[name], options)))


if __name__ == "__main__":
    main()
