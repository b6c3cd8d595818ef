"""What a confined process does: run a script, answer one call, serve its functions to tests, or be those tests."""

from __future__ import annotations

import ast
import builtins
import json
import os
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from laurel.sandbox.loading import Text, new_module, run_text
from laurel.sandbox.peers import Gone, Peer, Unsendable

OUT_OF_MEMORY = 77
"""The exit code of a program that ended because its memory did."""


def script(job: Mapping[str, Any]) -> None:
    """Run a program as `python program.py` does."""
    run_text(job["program"], "__main__")


def call(job: Mapping[str, Any]) -> None:
    """Run a program, call one of its functions with JSON, and write down what it returned, as JSON."""
    module = run_text(job["program"], "program")
    function = getattr(module, job["function"], None)
    if not callable(function):
        raise NameError(f"the program defines no function '{job['function']}'")
    returned = function(*job["arguments"])
    if isinstance(returned, bool | int | float):
        returned = float(returned)
    _write(job["result"], {"returned": returned})


def serve(job: Mapping[str, Any]) -> None:
    """Run a program, say whether that went well, and answer calls of its functions until the tests are through."""
    names: dict[str, Any] = {}
    peer = Peer(job["source"], job["sink"], names)
    module = run_text(job["program"], "program")
    names.update(vars(module))
    peer.serve()


def judge(job: Mapping[str, Any]) -> None:
    """Run tests against a program that lives in another process, and write down each one's result as it is known."""
    report = job["result"]
    try:
        tests = [ast.parse(text) for text in job["tests"]]
        given = ast.parse(job["given"])
    except (SyntaxError, ValueError, RecursionError) as error:
        _write(report, {"fault": f"the tests are no Python: {type(error).__name__}: {error}"})
        return
    loader = Text("tests", "tests.py")
    module = new_module("tests", loader)
    peer = Peer(job["source"], job["sink"])
    try:
        loader.translate(job["given"])
        loader.exec_module(module)
    except Exception as error:
        _write(report, {"fault": f"what stands before the tests raised {type(error).__name__}: {error}"})
        return
    _write(report, {"ready": True})
    try:
        _take(module, peer, _from_program([given, *tests], job["names"]), job["names"])
    except Gone:
        return
    _write(report, {"loaded": True})
    for number, text in enumerate(job["tests"]):
        _write(report, {"test": number, **_result(loader, module, text)})


def _result(loader: Text, module: ModuleType, text: str) -> dict[str, Any]:
    try:
        loader.translate(text)
        loader.exec_module(module)
    except Unsendable as error:
        return {"fault": str(error)}
    except BaseException as error:
        return {"passed": False, "why": f"{type(error).__name__}: {error}"[:300]}
    return {"passed": True}


def _take(module: ModuleType, peer: Peer, names: Sequence[str], wanted: Sequence[str]) -> None:
    """Names of the program, into the tests. One that it does not define is left out, and the test that reads it fails;
    one that is wanted hides whatever the beginning of the program left under its name.
    """
    for name in names:
        try:
            setattr(module, name, peer.ask("name", name, [], {}))
        except Gone:
            raise
        except Exception:
            if name in wanted:
                vars(module).pop(name, None)


def _from_program(trees: Sequence[ast.AST], wanted: Sequence[str]) -> list[str]:
    """The names that tests read and do not define: the program's, unless they are built in."""
    read, bound = set[str](), set[str]()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                bound.add(node.name)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
            elif isinstance(node, ast.alias):
                bound.add((node.asname or node.name).partition(".")[0])
            elif isinstance(node, ast.ExceptHandler) and node.name:
                bound.add(node.name)
    return sorted((read - bound - set(dir(builtins))) | set(wanted))


def _write(descriptor: int, said: Mapping[str, Any]) -> None:
    line = json.dumps(said).encode() + b"\n"
    while line:
        line = line[os.write(descriptor, line) :]


ROLES: dict[str, Callable[[Mapping[str, Any]], None]] = {"script": script, "call": call, "serve": serve, "judge": judge}
