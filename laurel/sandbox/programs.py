"""What can be asked about a program that a model wrote: what it prints, what a function of it returns, which tests
it passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from laurel.errors import SandboxError
from laurel.sandbox.confinement import Bounds
from laurel.sandbox.outside import Ended, Member, outcome, run_box


@dataclass(frozen=True)
class Returned:
    """What a call gave.

    Attributes:
        value: what the function returned, as JSON holds it; None if it returned nothing.
        ended: how the program ended; where it did not end well there is no value.
    """

    value: Any
    ended: Ended


@dataclass(frozen=True)
class Verdict:
    """What tests say of a program.

    Attributes:
        passed: for each test whether it passed. One that was not reached did not.
        loaded: whether the program ran to its end when it was loaded.
        why: for each test what it raised; "" where it passed.
        ended: how the program ended.
    """

    passed: tuple[bool, ...]
    loaded: bool
    why: tuple[str, ...]
    ended: Ended


class BrokenTests(SandboxError):
    """The tests of a task cannot be run. That says nothing of the program."""


def run(program: str, *, stdin: str = "", bounds: Bounds | None = None) -> Ended:
    """Run a program as `python program.py` would, in the sandbox.

        run("print(input()[::-1])", stdin="laurel").output        # "leruaL" backwards: "lerual"

    Raises:
        SandboxError: where there can be no sandbox, or it failed.
    """
    said = run_box([Member("script", {"program": program}, stdin=stdin)], bounds or Bounds())
    return outcome(said, "script")


def call(program: str, function: str, arguments: Sequence[Any], *, bounds: Bounds | None = None) -> Returned:
    """Run a program in the sandbox and call one of its functions with JSON values.

    The program shares its process with what writes the result down, so that it can return whatever it wants: this is
    for functions that you trust to answer, working on data that you do not.

    Raises:
        SandboxError: where there can be no sandbox, or it failed.
    """
    job = {"program": program, "function": function, "arguments": list(arguments)}
    said = run_box([Member("call", job)], bounds or Bounds())
    ended = outcome(said, "call")
    value = said.result[-1].get("returned") if said.result and ended.well else None
    return Returned(value, ended)


def judge(
    program: str, tests: Sequence[str], *, given: str = "", names: Sequence[str] = (), bounds: Bounds | None = None
) -> Verdict:
    """Run tests against a program. The two share no process: whatever the program does, it can only answer calls.

        judge("def add(a, b): return a + b", ["assert add(1, 2) == 3", "assert add(2, 2) == 5"]).passed == (True, False)

    The tests run in one name space, in their order; each passes if it raises nothing. Names that they read, do not
    define and are not built in are the program's. What is handed to the program and what it returns is copied
    (`laurel.sandbox.values`); other objects stay where they are, and equal themselves alone.

    Args:
        given: what runs before the tests, on their side.
        names: further names that are the program's, even if they are built in or defined by `given`.

    Raises:
        BrokenTests: if the tests or what is given are no Python, make calls that the sandbox refuses, or hand the
            program what cannot cross to it.
        SandboxError: where there can be no sandbox, or it failed.
    """
    tests_job = {"tests": list(tests), "given": given, "names": list(names)}
    said = run_box([Member("serve", {"program": program}), Member("judge", tests_job, False)], bounds or Bounds())
    fault = next((str(line["fault"]) for line in said.result if "fault" in line), None)
    if fault is not None:
        raise BrokenTests(f"{fault[:300].rstrip('.')}.", hint="mend the task's tests.")
    ready = any("ready" in line for line in said.result)
    if not ready and said.overrun is None:
        raise BrokenTests("What stands before the tests does not end, or not well.", hint="mend the task's tests.")
    judged = outcome(said, "judge")
    if judged.signal == "SIGSYS":
        raise BrokenTests("The tests make a system call that the sandbox refuses.", hint="mend the task's tests.")
    reports = {line["test"]: line for line in said.result if "test" in line}
    passed = tuple(reports.get(number, {}).get("passed") is True for number in range(len(tests)))
    why = tuple(str(reports.get(number, {"why": "it was not reached"}).get("why", "")) for number in range(len(tests)))
    loaded = any("loaded" in line for line in said.result)
    return Verdict(passed, loaded, why, outcome(said, "serve"))
