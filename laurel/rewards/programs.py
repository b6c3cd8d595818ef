"""A reward for programs: the task's tests, run in the sandbox."""

from __future__ import annotations

import ast
import builtins
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from laurel.errors import ConfigurationError
from laurel.sandbox import Bounds, BrokenTests, judge, require, run
from laurel.tasks.extraction import last_code_block
from laurel.tasks.task import Task
from laurel.tree import Failed, Score

_DEFAULT = Bounds()
_BEGINNING = ("", "    pass\n", "\n    pass\n")
"""How a beginning may go on so that it is a program by itself: it ends with a function's documentation, or its head."""


@dataclass(frozen=True)
class Code:
    """See `code`."""

    runs_in_process: ClassVar[bool] = False
    has_other_answers: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ("passed", "loaded")
    tests: str = "tests"
    entry_point: str | None = None
    beginning: str | None = None
    setup: str | None = None
    fraction: bool = False
    seconds: float = _DEFAULT.seconds
    memory_bytes: int = _DEFAULT.memory_bytes

    def __post_init__(self) -> None:
        for name in ("tests", "entry_point", "beginning", "setup"):
            if getattr(self, name) == "":
                raise ConfigurationError(f"{name}='' names no column.", hint="name one, or leave it out.")
        Bounds(seconds=self.seconds, memory_bytes=self.memory_bytes)
        require()

    @property
    def longest_seconds(self) -> float:
        """How long the grading of one answer may take by its own deadline."""
        return Bounds(seconds=self.seconds).clock_seconds

    def __call__(self, task: Task, text: str) -> Score | Failed:
        tests = _tests(task, self.tests)
        if isinstance(tests, Failed):
            return tests
        try:
            beginning, setup = (_text(task, column) for column in (self.beginning, self.setup))
            entry = _text(task, self.entry_point)
        except KeyError as error:
            return Failed(f"task {task.id} has no text in the column {error}; it has {', '.join(task.data) or 'none'}")
        program = _program(text, beginning, entry)
        bounds = Bounds(seconds=self.seconds, memory_bytes=self.memory_bytes)
        if isinstance(tests[0], Mapping):
            return self._score(*_printed(program, tests, bounds))
        given = _alone(beginning) or ""
        entry = entry or _last_function(given)
        names = [entry] if entry else []
        names += _built_in_names(task.reference, beginning)
        wanted = [_calling(str(test), entry) for test in tests]
        try:
            verdict = judge(program, [setup, *wanted], given=given, names=names, bounds=bounds)
        except BrokenTests as error:
            return Failed(f"task {task.id}: {error.message}")
        return self._score(verdict.passed[1:], verdict.loaded)

    def _score(self, passed: Sequence[bool], loaded: bool) -> Score:
        share = sum(passed) / len(passed)
        return Score(share if self.fraction else float(all(passed)), {"passed": share, "loaded": float(loaded)})


def code(
    *,
    tests: str = "tests",
    entry_point: str | None = None,
    beginning: str | None = None,
    setup: str | None = None,
    fraction: bool = False,
    seconds: float = _DEFAULT.seconds,
    memory_bytes: int = _DEFAULT.memory_bytes,
) -> Code:
    """1 where the answer's program passes all of its task's tests, which are run in the sandbox.

        code(tests="test", entry_point="entry_point", beginning="prompt")     # HumanEval
        code(tests="test_list", setup="test_setup_code")                      # MBPP

    The program is the last fenced block of the answer, or, without one, the whole answer. The tests live in another
    process and call it from there, so that it can only answer: leaving, printing, patching built-in names, redefining
    what the tests use, or objects that equal everything gain it nothing (`laurel.sandbox.judge`). The score has the
    parts `passed` (the share of the tests) and `loaded` (1: the program ran when it was loaded).

    What is the program's own doing scores 0: an error, a crash, a refused call, too much time, memory or output. Tests
    that are broken, and a sandbox that fails, give a failure: they say nothing of the program.

    Args:
        tests: the column with the tests: a text, a list of texts (each is one test), or a list of
            {"input": ..., "output": ...}, for which the program reads and prints. A text that defines `check` calls it
            with the function of the entry point.
        entry_point: the column with the name of the function that is asked for.
        beginning: the column with the beginning of the program, which the answer goes on with or writes anew ("prompt":
            the task's prompt). What else it defines stays as it is for the tests, whatever the answer makes of it.
        setup: the column with code that runs before the tests.
        fraction: score the share of the tests that pass, instead of 1 for all.
        seconds: of processor time, for the program with all of its tests; on the clock it may take twice as long, and
            grading needs a deadline above that.
        memory_bytes: for the program.

    Raises:
        ConfigurationError: for an empty column's name or a bound that makes no sense.
        SandboxError: where there can be no sandbox.
    """
    return Code(tests, entry_point, beginning, setup, fraction, seconds, memory_bytes)


def _tests(task: Task, column: str) -> Sequence[Any] | Failed:
    """All texts, or all mappings with an input and an output."""
    found = task.data.get(column)
    tests = [found] if isinstance(found, str) else found
    if isinstance(tests, list | tuple) and tests:
        if all(isinstance(test, str) for test in tests):
            return tests
        if all(isinstance(t, Mapping) and all(isinstance(t.get(k), str) for k in ("input", "output")) for t in tests):
            return tests
    if found is None:
        return Failed(f"task {task.id} has no column '{column}' with tests; it has {', '.join(task.data) or 'none'}")
    return Failed(f"task {task.id}: the column '{column}' holds no text, list of texts, or list of inputs and outputs")


def _text(task: Task, column: str | None) -> str:
    if column is None:
        return ""
    found = task.data.get(column)
    if found is None and column == "prompt":
        found = task.prompt if isinstance(task.prompt, str) else task.prompt[-1]["content"]
    if not isinstance(found, str):
        raise KeyError(column)
    return found.replace("\r\n", "\n")


def _program(text: str, beginning: str, entry: str) -> str:
    """The answer as a program: by itself, after the beginning, or in place of the function that it begins."""
    block = last_code_block(text)
    body = (text if block is None else block).replace("\r\n", "\n")
    if not beginning:
        return body
    defined = _defined(body)
    anew = entry in defined if entry else bool(defined)
    return f"{_alone(beginning) or ''}\n\n{body}" if anew else beginning + body


def _defined(text: str) -> list[str]:
    """The functions and classes that a program defines at its top level; none if it is no program."""
    tree = _parsed(text)
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return [node.name for node in tree.body if isinstance(node, kinds)] if tree else []


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _alone(beginning: str) -> str | None:
    """The beginning, closed so that it is a program; None if it is none."""
    return next((beginning + end for end in _BEGINNING if _parsed(beginning + end) is not None), None)


def _last_function(given: str) -> str:
    """Of a beginning: the function that it breaks off in."""
    defined = _defined(given)
    return defined[-1] if defined else ""


def _built_in_names(reference: str | None, beginning: str) -> list[str]:
    """Built-in names that the right program defines: the tests mean its own `sum` then."""
    names = _defined(reference or "") or _defined(beginning + (reference or ""))
    return [name for name in names if hasattr(builtins, name)]


def _calling(test: str, entry: str) -> str:
    return f"{test}\n\ncheck({entry})\n" if entry and "check" in _defined(test) else test


def _printed(program: str, cases: Sequence[Mapping[str, str]], bounds: Bounds) -> tuple[list[bool], bool]:
    """For each input whether the program prints the output, and whether it ended well for one at least. Spaces at the
    ends of lines, and empty lines at the end, do not count.
    """
    deadline = time.monotonic() + bounds.clock_seconds
    passed: list[bool] = []
    loaded = False
    for case in cases:
        left = deadline - time.monotonic()
        if left <= 0:
            passed.append(False)
            continue
        ended = run(program, stdin=case["input"], bounds=replace(bounds, seconds=min(bounds.seconds, left / 2)))
        loaded = loaded or ended.well
        passed.append(ended.well and _lines(ended.output) == _lines(case["output"]))
    return passed, loaded


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
