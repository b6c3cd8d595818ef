"""The demo over several seeds, each with its control: python benchmarks/demo_seeds.py [SEED ...]

Prints the table of docs/demo.md. Exits with 1 if a seed misses its target.
"""

import sys
import tempfile
from pathlib import Path

from rich.console import Console

from laurel.demonstration import demo
from laurel.metrics import Metric

SEEDS = (1, 2, 3, 4, 5)


def percent(metric: Metric | None) -> str:
    """A share as text."""
    return "-" if metric is None else f"{metric.mean:.1%}"


def main(seeds: list[int]) -> int:
    """Run and print; the exit status."""
    quiet = Console(quiet=True)
    met = True
    print("| seed | after cloning | after reinforcing | control: cloning on | reinforced in |\n|---|---|---|---|---|")
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            result = demo(seed=seed, run=Path(folder) / "demo", control=True, console=quiet)
        met = met and result.met
        cells = (percent(result.before), percent(result.after), percent(result.control), f"{result.seconds:.0f} s")
        print(f"| {seed} | {' | '.join(cells)} |", flush=True)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main([int(seed) for seed in sys.argv[1:]] or list(SEEDS)))
