"""Every named online method learns two tasks with known answers, over several seeds: what each costs and gains.

    python -m studies.learning [--workers 2] [--seeds 5] [--methods NAME ...] [--report]

Every finished run is one line of `studies/runs/learning.jsonl`, so that a study that was stopped goes on, and one whose
settings were changed runs again. The results are `studies/results/learning.json`, `.md` and `.svg`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from studies.learned import Learned, chosen, learn
from studies.learning_methods import CONTROLS, runnable
from studies.learning_report import report
from studies.learning_tasks import learning_tasks

KEPT = Path(__file__).parent / "runs" / "learning.jsonl"
SEEDS = 5


def kept(path: Path = KEPT) -> list[Learned]:
    """The finished runs. A last line that was cut off in the middle is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(Learned(**json.loads(line)))
        except json.JSONDecodeError:
            print(f"{path}: a line that was cut off is left out; its run comes again.")
    return found


def wanted(names: Iterable[str], seeds: int) -> list[tuple[str, str, int]]:
    """Method, task and seed of every run; the first seed of all comes before the second of any."""
    return [(name, task, seed) for seed in range(seeds) for task in learning_tasks() for name in names]


def missing(cells: Iterable[tuple[str, str, int]], done: Iterable[Learned]) -> list[tuple[str, str, int]]:
    """The runs that are not there under the present settings."""
    tasks, there = learning_tasks(), {learned.key for learned in done}
    return [
        (name, task, seed)
        for name, task, seed in cells
        if (name, task, seed, json.dumps(chosen(name, tasks[task]))) not in there
    ]


def end_with_parent() -> None:
    """A worker whose study was killed ends too: it would wait for work for ever."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_all(cells: list[tuple[str, str, int]], workers: int, path: Path = KEPT) -> None:
    """Run them, and keep each as soon as it is done.

    Raises:
        LaurelError: what the first run that failed raised; those that are done are kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.read_text().endswith("\n"):
        path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")))
    started = time.monotonic()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=end_with_parent) as pool, path.open("a") as file:
        running = [pool.submit(learn, *cell) for cell in cells]
        try:
            for count, future in enumerate(as_completed(running), start=1):
                learned = future.result()
                file.write(json.dumps(asdict(learned)) + "\n")
                file.flush()
                where = f"[{count}/{len(cells)}, {time.monotonic() - started:.0f} s]"
                text = f"{learned.method} on {learned.task}, seed {learned.seed}: {learned.returns[-1]:.3f}"
                print(f"{where} {text}", flush=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--methods", nargs="+", choices=[*runnable(), *CONTROLS], default=[*runnable(), *CONTROLS])
    parser.add_argument("--report", action="store_true", help="report on what is there, and run nothing")
    arguments = parser.parse_args()
    if not arguments.report:
        run_all(missing(wanted(arguments.methods, arguments.seeds), kept()), arguments.workers)
    cells = wanted([*runnable(), *CONTROLS], arguments.seeds)
    done = {learned.key[:3]: learned for learned in kept() if not missing([learned.key[:3]], [learned])}
    report([done[cell] for cell in cells if cell in done], sum(cell not in done for cell in cells))


if __name__ == "__main__":
    main()
