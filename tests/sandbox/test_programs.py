"""What is asked about a program: its output, a call, its tests; and programs that would rather cheat than solve."""

import os

import pytest

from laurel.errors import ConfigurationError, SandboxError
from laurel.sandbox import Bounds, BrokenTests, Finish, call, judge, kernel, outside, run, starting

pytestmark = pytest.mark.skipif(kernel.missing() is not None, reason=f"no sandbox here: {kernel.missing()}")

ADD = "def add(a, b):\n    return a + b\n"


def test_a_script_reads_and_prints():
    ended = run("print(input()[::-1])", stdin="laurel")
    assert (ended.output, ended.errors, ended.well) == ("lerual\n", "", True)
    assert str(ended) == "exited with code 0"


def test_a_script_that_fails_says_how():
    wrong = run("import sys\nprint('é')\ndef f():\n    return 1 / 0\nf()")
    assert (wrong.finish, wrong.exit_code, wrong.output) == (Finish.EXITED, 1, "é\n")
    assert str(wrong) == "exited with code 1: ZeroDivisionError: division by zero"
    assert "return 1 / 0" in wrong.errors
    assert run("raise SystemExit(3)").exit_code == 3
    assert run("import os; os._exit(4)").exit_code == 4
    assert str(run("import sys; sys.exit('no')")) == "exited with code 1: no"
    assert run("def").exit_code == 1
    crashed = run("import ctypes; ctypes.string_at(0)")
    assert (crashed.finish, crashed.signal, str(crashed)) == (
        Finish.SIGNAL,
        "SIGSEGV",
        "was killed by a signal (SIGSEGV)",
    )
    aborted = run("import os; os.kill(os.getpid(), 6)")
    assert aborted.signal == "SIGABRT"


def test_what_programs_of_tasks_need_is_there():
    ended = run(
        "import asyncio, concurrent.futures, dataclasses, decimal, hashlib, json, os, random, re\n"
        "import sqlite3, ssl, tempfile\n"
        "async def later(x):\n    await asyncio.sleep(0.001); return x\n"
        "async def both(): return await asyncio.gather(later(1), later(2))\n"
        "with concurrent.futures.ThreadPoolExecutor(2) as pool: done = list(pool.map(str, [1, 2]))\n"
        "print(done, asyncio.run(both()))\n"
        "with tempfile.TemporaryFile(dir='.') as f: print(f.write(b'x'))\n"
        "print('x', file=open(os.devnull, 'w')); print(len(open('/dev/urandom', 'rb').read(8)), len(os.urandom(8)))\n"
        "open('a', 'w').write('kept'); print(open('a').read(), __name__, len({'a', 'b'}))"
    )
    assert ended.output == "['1', '2'] [1, 2]\n1\n8 8\nkept __main__ 2\n", ended
    order = "print([hash(x) for x in ('a', 'b')])"
    assert run(order).output == run(order).output


def test_a_call():
    assert call(ADD, "add", [[1], [2]]).value == [1, 2]
    assert call(ADD, "add", [True, 0.5]).value == 1.5
    missing = call(ADD, "sub", [1, 2])
    assert missing.value is None and str(missing.ended).endswith("the program defines no function 'sub'")
    assert "TypeError" in call(ADD, "add", [1, "x"]).ended.errors
    assert not call("def f(): return object()", "f", []).ended.well


def test_tests_pass_and_fail_one_by_one():
    verdict = judge(ADD, ["assert add(1, 2) == 3", "assert add(2, 2) == 5", "assert add('a', b='b') == 'ab'", "sub(1)"])
    assert verdict.passed == (True, False, True, False)
    assert verdict.why == ("", "AssertionError: ", "", "NameError: name 'sub' is not defined")
    assert verdict.loaded and verdict.ended.well


def test_what_crosses_between_a_program_and_its_tests():
    program = """
import collections, fractions
Point = collections.namedtuple('Point', 'x y')
class Node:
    def __init__(self, value): self.value, self.next = value, None
    def __eq__(self, other): return True
    def __contains__(self, item): return True
    def __iter__(self): return iter([1, 2])
def kinds(): return [(1, 2.5), {3}, {'a': b'b'}, 2**70, 1j, None, True, fractions.Fraction(1, 3), range(3), int, 'é']
def sort(items): items.sort(); items.append([0])
def twice(f, x): return f(f(x))
def length(node): return 0 if node is None else 1 + length(node.next)
def some(n):
    for i in range(n): yield i
def fail(): raise KeyError('key')
VALUE = Point(1, 2)
"""
    tests = [
        "from fractions import Fraction\n"
        "assert kinds() == [(1, 2.5), {3}, {'a': b'b'}, 2**70, 1j, None, True, Fraction(1, 3), range(3), int, 'é']",
        "items = [3, 1, 2]\nsort(items)\nassert items == [1, 2, 3, [0]]",
        "assert twice(lambda x: x + 1, 5) == 7",
        "a, b = Node(1), Node(2)\na.next = b\nassert length(a) == 2 and a.next.value == 2 and VALUE == (1, 2)",
        "assert list(some(3)) == [0, 1, 2] and next(some(1)) == 0 and bool(some(0)) and sum(some(4)) == 6",
        "try:\n    fail()\nexcept KeyError as error:\n    assert error.args == ('key',)\nelse:\n    assert False",
        "assert Node(1) == 1",
        "assert 3 in Node(1)",
        "assert 2 in Node(1)",
    ]
    verdict = judge(program, tests)
    assert verdict.passed == (True, True, True, True, True, True, False, False, True), verdict.why


CHEATS = {
    "leaves at once": "import os; os._exit(0)",
    "leaves when asked": "def add(a, b):\n    import os; os._exit(0)",
    "exits": "def add(a, b): raise SystemExit(0)",
    "prints a mark": "print('{\"test\": 0, \"passed\": true}')\ndef add(a, b): return print('passed')",
    "equals everything": """
class A:
    def __eq__(self, other): return True
    __hash__ = None
def add(a, b): return A()""",
    "a number that equals everything": """
class A(int):
    def __eq__(self, other): return True
def add(a, b): return A(0)""",
    "rules the built-in names": """
import builtins, math
builtins.sorted = builtins.abs = lambda *a: 0
builtins.AssertionError = Ellipsis
math.isclose = lambda *a: True
def sorted(x): return 0
def add(a, b): return 0""",
    "writes wherever it can": """
import os
for descriptor in range(64):
    for number in range(3):
        try: os.write(descriptor, b'{"test": %d, "passed": true}\\n' % number)
        except OSError: pass
def add(a, b): return 0""",
    "answers before it is asked": """
import os
for descriptor in range(64):
    for message in (b'["value", null, []]\\n', b'[]\\n', b'\\xff\\n', b'["value", 3, [[9, []]]]\\n'):
        try: os.write(descriptor, message)
        except OSError: pass
def add(a, b): return 0""",
    "never answers": "def add(a, b):\n    while True: pass",
    "answers too much": "def add(a, b): return 'x' * 10**8",
    "answers without an end": "def add(a, b):\n    a = []\n    a.append(a)\n    return a",
    "is no Python": "def add(a, b) return 3",
    "crashes": "import ctypes\nctypes.string_at(0)",
    "looks around": """
import gc, sys
def add(a, b):
    frame = sys._getframe()
    there = [value for value in gc.get_objects() if isinstance(value, (dict, list, tuple))]
    while frame:
        there += [frame.f_globals, frame.f_locals, frame.f_code.co_consts, frame.f_code.co_names]
        frame = frame.f_back
    for value in there:
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, str) and '8c1e_terces'[::-1] in item: return 3
    return 0""",
    "reaches through what it is given": "def add(a, b): return b.__globals__['secret_e1c8']",
}


@pytest.mark.parametrize("name", CHEATS)
def test_who_does_not_solve_does_not_pass(name):
    tests = [
        "import math\nsecret_e1c8 = 3\nassert add(1, 2) == secret_e1c8",
        "assert sorted([add(2, 2)]) == [4] and math.isclose(abs(add(1, 0)), 1)",
        "assert add(1, len) == secret_e1c8",
    ]
    verdict = judge(CHEATS[name], tests, bounds=Bounds(seconds=0.4))
    assert verdict.passed == (False, False, False), verdict
    if name in ("looks around", "rules the built-in names", "equals everything"):
        assert verdict.why[2].startswith("AssertionError") and verdict.ended.well, verdict  # it was heard to the end


def test_who_looks_around_would_find_what_is_there():
    """The control of the cheat above: in its own process it finds the word."""
    cheat = CHEATS["looks around"].replace("def add", "there = 'secret_e1c8'\ndef add")
    assert judge(cheat, ["assert add(1, 2) == 3"]).passed == (True,)


def test_a_program_may_only_call_what_it_is_given():
    reach = "def f(g): return getattr(g, '__globals__')"
    assert judge(reach, ["def g(): pass\nf(g)"]).why == ("PermissionError: only functions may be called",)


def test_names_that_are_built_in_are_the_programs_only_if_it_is_said():
    program = "def sum(a, b): return a + b\n"
    assert judge(program, ["assert sum(10, 15) == 25"]).passed == (False,)
    assert judge(program, ["assert sum(10, 15) == 25"], names=["sum"]).passed == (True,)


def test_what_is_given_stays_with_the_tests():
    """The check of a root uses the polynomial of the prompt, which a program could redefine to be 0."""
    given = "def poly(x):\n    return x * x - 4\n\ndef root():\n    pass\n"
    test = ["assert poly(root()) == 0"]
    assert judge(given + "def root(): return 2", test, given=given, names=["root"]).passed == (True,)
    assert judge("def poly(x): return 0\ndef root(): return 9", test, given=given, names=["root"]).passed == (False,)
    assert judge("def poly(x): return 0", test, given=given, names=["root"]).passed == (False,)


def test_how_the_program_ended_and_whether_it_was_loaded():
    slow = judge("while True: pass", ["f()"], bounds=Bounds(seconds=0.5))
    assert (slow.passed, slow.loaded, slow.ended.finish) == ((False,), False, Finish.DEADLINE)
    late = judge(
        "def f(x):\n    while x: pass\n    return 1", ["assert f(0)", "f(1)", "f(0)"], bounds=Bounds(seconds=0.5)
    )
    assert (late.passed, late.loaded, late.ended.finish) == ((True, False, False), True, Finish.DEADLINE)
    assert late.why[1] == "it was not reached"
    refused = judge("import os\ndef f(): os.kill(1, 0)", ["f()", "f()"])
    assert (refused.passed, refused.ended.finish) == ((False, False), Finish.REFUSED)
    loud = judge("def f():\n    while True: print('x' * 100)", ["f()"])
    assert (loud.passed, loud.ended.finish) == ((False,), Finish.OUTPUT)
    wrong = judge("import no_such_module\ndef f(): pass", ["f()"])
    assert (wrong.loaded, wrong.ended.exit_code) == (False, 1) and "no_such_module" in str(wrong.ended)


@pytest.mark.parametrize(
    ("tests", "given", "message"),
    [
        (["assert f( == 1"], "", "the tests are no Python: SyntaxError"),
        (["f()"], "1 / 0", "what stands before the tests raised ZeroDivisionError"),
        (["class A: pass\nf(A())"], "", "hand a A to the program"),
        (["import os; os.kill(1, 0)"], "", "a system call that the sandbox refuses"),
        (["f()"], "while True: pass", "does not end"),
    ],
)
def test_broken_tests_say_nothing_of_the_program(tests, given, message):
    with pytest.raises(BrokenTests, match=message):
        judge("def f(x=0): pass", tests, given=given, bounds=Bounds(seconds=0.5))


def test_without_a_sandbox_nothing_runs(monkeypatch):
    monkeypatch.setattr(kernel, "landlock_version", lambda: 0)
    with pytest.raises(SandboxError, match=r"cannot be run safely here: the kernel offers no Landlock.*\n.*Linux"):
        run("print(1)")
    monkeypatch.setattr(kernel, "has_seccomp_filters", lambda: False)
    with pytest.raises(SandboxError, match="no seccomp"):
        judge(ADD, ["add(1, 2)"])
    for name, message in {"aarch64": "this processor is aarch64"}.items():
        monkeypatch.setattr(kernel.platform, "machine", lambda name=name: name)
        with pytest.raises(SandboxError, match=message):
            run("print(1)")
    monkeypatch.setattr(kernel.sys, "platform", "darwin")
    with pytest.raises(SandboxError, match="made of parts of the Linux kernel"):
        call(ADD, "add", [1, 2])


def test_a_program_that_cannot_be_confined_is_not_run(monkeypatch):
    """A sandbox that fails is our fault, and no verdict on the program."""
    monkeypatch.setattr(starting, "_RUNNING", {})
    monkeypatch.setattr(outside, "_readable", lambda: ["/proc/self/mem/none"])
    with pytest.raises(SandboxError, match="could not confine its program, which was not run: NotADirectoryError"):
        run("print(1)")


@pytest.mark.parametrize(("python", "message"), {"/bin/false": "died with code 1", "/no/python": "be started"}.items())
def test_a_sandbox_that_does_not_start_says_so(python, message, monkeypatch):
    monkeypatch.setattr(starting, "_RUNNING", {})
    monkeypatch.setattr(starting.sys, "executable", python)
    with pytest.raises(SandboxError, match=message):
        run("print(1)")
    monkeypatch.undo()
    assert run("print(1)").well


def test_a_process_that_was_forked_has_its_own_starter():
    first = run("print(1)").well and starting._RUNNING[os.getpid()]
    child = os.fork()
    if child == 0:
        own = run("print(1)").well and starting._RUNNING[os.getpid()]
        os._exit(10 if own is not first else 11)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
    assert run("print(1)").well and starting._RUNNING[os.getpid()] is first


def test_a_starter_that_was_killed_is_started_again():
    assert run("print(1)").well
    starting._RUNNING[os.getpid()].process.kill()
    with pytest.raises(SandboxError, match="What starts sandboxes died with code -9"):
        run("print(1)")
    assert run("print(1)").well


@pytest.mark.parametrize(
    "wrong", [{"seconds": 0}, {"seconds": float("inf")}, {"memory_bytes": 1}, {"folder_files": -1}]
)
def test_bounds_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigurationError, match="is no bound"):
        Bounds(**wrong)
