"""Do the tests see a fault? One line at a time is made wrong, in a copy of the package, and its tests have to fail.

python mutants/mutate.py                          all of them, two at a time
python mutants/mutate.py --only NAME [NAME ...]   these
python mutants/mutate.py --sample 12 --seed 3     a quick look at twelve, the same ones for the same seed

The faults are data, in the TOML files beside this one: the line that is made wrong (without indentation; it must stand
in its file exactly once), what takes its place, and why that would matter. The tests that should see it are those of
the fault, or else of its file. The working tree is never touched. The exit status is 1 where the tests see fewer than
95 % of what was tried, 2 where nothing could be said: a fault is out of date, or the tests fail without any.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
COPIED = ("laurel", "tests", "pyproject.toml")
LEAST_KILLED = 0.95
TIMEOUT_SECONDS = 600
"""Tests that take longer than this have seen a fault: they hang."""

PASSED, FAILED, ANOTHER_PACKAGE = 10, 11, 12
"""Exit statuses of a process that ran tests: pytest's own plus 10, so that a crash is no verdict."""

PRELOADED = ["hypothesis", "numpy", "pytest", "safetensors.torch", "torch", "transformers.core_model_loading"]


class Unusable(Exception):
    """The run can say nothing about the tests."""


@dataclass(frozen=True)
class Fault:
    """One line that is made wrong.

    Attributes:
        file: below the root of the repository.
        line, wrong: what stands there and what takes its place, without indentation.
        what: why it would matter.
        tests: what should see it, below the root.
    """

    name: str
    file: str
    line: str
    wrong: str
    what: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The file's text with the fault in it.

        Raises:
            Unusable: the line does not stand there exactly once.
        """
        lines = text.splitlines()
        places = [index for index, line in enumerate(lines) if line.strip() == self.line]
        if len(places) != 1:
            raise Unusable(
                f"{self.name} is out of date: {self.file} has its line {len(places)} times, not once:\n  {self.line}\n"
                "Take the line that does this now, or write another fault in its place."
            )
        (place,) = places
        indentation = lines[place][: len(lines[place]) - len(lines[place].lstrip())]
        return "\n".join([*lines[:place], indentation + self.wrong, *lines[place + 1 :], ""])


@dataclass(frozen=True)
class Verdict:
    """Whether the tests saw a fault, which of them, and how long that took."""

    fault: Fault
    killed: bool
    seen_by: str
    seconds: float


def load(folder: Path) -> list[Fault]:
    """All faults of the TOML files of a folder, by file name.

    Raises:
        Unusable: an entry lacks something or has something unknown, or two have one name.
    """
    faults: list[Fault] = []
    for path in sorted(folder.glob("*.toml")):
        content = tomllib.loads(path.read_text())
        for entry in content["fault"]:
            tests = entry.pop("tests", None) or content["tests"].get(entry.get("file"), ())
            try:
                faults.append(Fault(tests=tuple(tests), **entry))
            except TypeError as error:
                raise Unusable(f"{path.name}: {entry}: {error}") from error
    names = [fault.name for fault in faults]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Unusable(f"Two faults are called {', '.join(twice)}.")
    return faults


def check(faults: Sequence[Fault], root: Path) -> None:
    """Every fault changes the source that stands there, to something that compiles.

    Raises:
        Unusable: naming all that do not.
    """
    problems = []
    for fault in faults:
        try:
            compile(fault.applied((root / fault.file).read_text()), fault.file, "exec")
        except (Unusable, SyntaxError) as error:
            problems.append(str(error) if isinstance(error, Unusable) else f"{fault.name} does not compile: {error}")
        problems += [f"{fault.name}: there is no {path}." for path in fault.tests if not (root / path).exists()]
        if fault.line == fault.wrong:
            problems.append(f"{fault.name} changes nothing.")
    if problems:
        raise Unusable("\n".join(problems))


def copied(root: Path, to: Path) -> Path:
    """A copy of what the tests need, with the dates of its files, so that compiled files stay valid."""
    to.mkdir()
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, to / name)
        else:
            shutil.copy2(root / name, to / name)
    return to


def run_tests(copy: str, tests: Sequence[str], seed: int) -> None:
    """In a process of its own: the tests of a copy on the package of that copy; exits with what they said."""
    with open(Path(copy) / "tests.log", "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.chdir(copy)
    sys.path.insert(0, copy)
    os.environ["PYTHONPATH"] = copy
    import pytest

    import laurel

    if not Path(laurel.__file__).is_relative_to(copy):
        sys.exit(ANOTHER_PACKAGE)
    options = ["-x", "-q", "-p", "no:cacheprovider", "--timeout=0", f"--hypothesis-seed={seed}"]
    sys.exit(PASSED + int(pytest.main([*options, *tests])))


class Runner:
    """Runs tests on copies of a repository, each in a fresh process that has heavy libraries, but no Laurel, loaded."""

    def __init__(self, root: Path, workplace: Path, seed: int) -> None:
        self._workplace, self._seed = workplace, seed
        self._sound = copied(root, workplace / "sound")
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(PRELOADED)

    def check_sound(self, tests: Sequence[str]) -> None:
        """The tests pass where nothing is wrong.

        Raises:
            Unusable: they do not.
        """
        status, log = self._run(self._sound, tests)
        if status != PASSED:
            raise Unusable(f"Without any fault the tests do not pass (status {status}):\n{log[-2000:]}")

    def judge(self, fault: Fault) -> Verdict:
        """Apply one fault to a copy and run its tests.

        Raises:
            Unusable: the tests came to no verdict.
        """
        start = time.perf_counter()
        copy = copied(self._sound, self._workplace / fault.name)
        path = copy / fault.file
        path.write_text(fault.applied(path.read_text()))
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()
        status, log = self._run(copy, fault.tests)
        shutil.rmtree(copy)
        if status not in (PASSED, FAILED, None):
            raise Unusable(f"{fault.name}: the tests came to no verdict (status {status}):\n{log[-2000:]}")
        failed = re.search(r"^FAILED ([^\s\[]+)", log, re.MULTILINE)
        seen_by = "nobody" if status == PASSED else failed[1] if failed else "they hang" if status is None else "?"
        return Verdict(fault, status != PASSED, seen_by.removeprefix("tests/"), time.perf_counter() - start)

    def _run(self, copy: Path, tests: Sequence[str]) -> tuple[int | None, str]:
        process = self._processes.Process(target=run_tests, args=(str(copy), list(tests), self._seed))
        process.start()
        process.join(TIMEOUT_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            return None, ""
        log = copy / "tests.log"
        return process.exitcode, log.read_text() if log.exists() else ""


def run(root: Path, faults: Sequence[Fault], *, jobs: int, seed: int, told: Callable[[Verdict], None]) -> list[Verdict]:
    """Judge every fault; `told` hears of each as soon as it is known.

    Raises:
        Unusable: a fault is out of date, the tests fail without any, or came to no verdict.
    """
    check(faults, root)
    with tempfile.TemporaryDirectory(prefix="laurel-mutants-") as workplace:
        runner = Runner(root, Path(workplace).resolve(), seed)
        runner.check_sound(sorted({path for fault in faults for path in fault.tests}))

        def judge(fault: Fault) -> Verdict:
            verdict = runner.judge(fault)
            told(verdict)
            return verdict

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(judge, faults))


def chosen(faults: Sequence[Fault], only: Sequence[str], sample: int | None, seed: int) -> list[Fault]:
    """The faults with these names, or a random sample, or all.

    Raises:
        Unusable: a name is unknown.
    """
    known = {fault.name: fault for fault in faults}
    if unknown := [name for name in only if name not in known]:
        raise Unusable(f"There is no fault called {', '.join(unknown)}.")
    if only:
        return [known[name] for name in only]
    if sample is None or sample >= len(faults):
        return list(faults)
    return random.Random(seed).sample(list(faults), sample)


def report(verdicts: Sequence[Verdict], seconds: float, console: Console) -> bool:
    """Print the table and the total; whether enough faults were seen."""
    table = Table(box=None)
    for heading in ("fault", "what it is", "seen by", "s"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "s" else "left")
    for verdict in verdicts:
        style = None if verdict.killed else "bold red"
        table.add_row(verdict.fault.name, verdict.fault.what, verdict.seen_by, f"{verdict.seconds:.1f}", style=style)
    console.print(table)
    killed = sum(verdict.killed for verdict in verdicts)
    share = killed / max(len(verdicts), 1)
    console.print(
        f"{killed} of {len(verdicts)} faults seen ({share:.1%}) in {seconds:.0f} s; {LEAST_KILLED:.0%} needed"
    )
    return share >= LEAST_KILLED


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Do the tests see a fault?")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these faults and no others")
    parser.add_argument("--sample", type=int, metavar="N", help="this many faults, chosen by the seed")
    parser.add_argument("--seed", type=int, default=0, help="of the sample, and of what the tests draw")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="how many faults at a time")
    settings = parser.parse_args(arguments)
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    console = Console(width=None if sys.stdout.isatty() else 200)
    start = time.perf_counter()

    def told(verdict: Verdict) -> None:
        seen = "seen by" if verdict.killed else "SURVIVED"
        print(f"{verdict.fault.name}: {seen} {verdict.seen_by} ({verdict.seconds:.1f} s)", file=sys.stderr, flush=True)

    try:
        faults = chosen(load(HERE), settings.only, settings.sample, settings.seed)
        verdicts = run(HERE.parent, faults, jobs=settings.jobs, seed=settings.seed, told=told)
    except Unusable as error:
        console.print(str(error), style="red", markup=False)
        return 2
    return 0 if report(verdicts, time.perf_counter() - start, console) else 1


if __name__ == "__main__":
    sys.exit(main())
