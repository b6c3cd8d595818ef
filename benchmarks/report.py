"""Print the results of `against_trl.py`, from memory or from a file.

python benchmarks/report.py benchmarks/results/FILE.json
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from workloads import WORKLOADS

MEBIBYTE = 2**20
BUSY_LOAD = 1.0


def print_table(results: dict) -> None:
    """The results of `against_trl.py`."""
    headings = (
        "step s",
        "from, to",
        "sampling s",
        "learning s",
        "processor s",
        "answer tokens",
        "peak MiB (above start)",
        "times floor",
    )
    print_side_by_side(results, "Whole GRPO steps", headings, cells, verdict)


def print_side_by_side(
    results: dict,
    steps: str,
    headings: Sequence[str],
    cells: Callable[[dict], Sequence[str]],
    verdict: Callable[[str, dict], str],
) -> None:
    """One row for each workload and system, then one line for each comparison.

    Args:
        results: what `side_by_side.py` writes.
        steps: what was measured, for the title.
        headings: of `cells`, the figures of one system on one workload.
        verdict: the line of a workload, from its name and its results.
    """
    around = results["surroundings"]
    table = Table(title=f"{steps} on {around['device']}, {around['threads']} threads, fp32")
    for heading in ("workload", "system"):
        table.add_column(heading)
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, workload in results["workloads"].items():
        for system, summary in workload["systems"].items():
            table.add_row(name, system, *cells(summary))
        table.add_section()
    console = Console()
    console.print(table)
    if around["load_average_at_start"] > BUSY_LOAD:
        console.print(
            f"The machine was busy (load {around['load_average_at_start']:.1f} at the start). Threads that wait for "
            "each other suffer out of proportion: compare processor seconds only, and measure again.",
            style="bold red",
        )
    for name, workload in results["workloads"].items():
        console.print(verdict(name, workload))


def memory(summary: dict) -> str:
    """The peak of one system on one workload, in MiB, and how much of it is above the start."""
    above, peak = (summary[key] / MEBIBYTE for key in ("peak_above_start_bytes", "peak_bytes"))
    return f"{peak:.0f} ({above:.0f})"


def cells(summary: dict) -> list[str]:
    """The figures of one system on one workload."""
    low, high = summary["step_seconds_range"]
    return [
        f"{summary['step_seconds']:.3f}",
        f"{low:.3f}, {high:.3f}",
        f"{summary['sampling_seconds']:.3f}",
        f"{summary['learning_seconds']:.3f}",
        f"{summary['cpu_seconds']:.3f}",
        f"{summary['mean_answer_tokens']:.1f}",
        memory(summary),
        f"{summary['times_floor']:.1f}",
    ]


def verdict(name: str, workload: dict) -> str:
    """The floor of one workload and, when both systems ran, the comparison with what is wanted."""
    rate = workload["matrix_operations_per_second"]
    floors = {f"{summary['floor_seconds']:.3f}" for summary in workload["systems"].values()}
    line = f"{name}: floor {' and '.join(sorted(floors))} s at {rate / 1e9:.0f} GFLOP/s"
    if "speed" in workload:
        wanted = WORKLOADS[name]
        line += f"; Laurel {workload['speed']:.2f} times faster (wanted {wanted.wanted_speed:g})"
        line += f", {workload['memory']:.0%} of the peak memory"
        line += f" (wanted {wanted.wanted_memory:.0%})" if wanted.wanted_memory else ""
        line += f", {workload['memory_whole_process']:.0%} counting the whole process"
    return line


if __name__ == "__main__":
    print_table(json.loads(Path(sys.argv[1]).read_text()))
