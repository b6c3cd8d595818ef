"""The reward for programs: by hand, and on the real tasks of HumanEval and MBPP."""

import ast
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import laurel.tasks
from laurel.errors import ConfigurationError
from laurel.rewards import Failed, Grader, GradingSettings, code, exact_match, weighted
from laurel.sandbox import kernel
from laurel.tasks import Task

DATA = Path(os.environ.get("LAUREL_DATA", Path(__file__).parents[3] / "shared" / "data"))
with_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA} (set LAUREL_DATA)")
pytestmark = pytest.mark.skipif(kernel.missing() is not None, reason=f"no sandbox here: {kernel.missing()}")

ADD = Task(
    "add",
    "Write add.",
    "def add(a, b):\n    return a + b\n",
    {"tests": ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]},
)


def graded(reward, task, text):
    score = reward(task, text)
    return score.value, dict(score.parts)


def test_a_program_is_taken_from_its_answer():
    right = "def add(a, b):\n    return a + b\n"
    for text in (
        right,
        f"Sure:\n```python\n{right}```\nDone.",
        f"```\n{right}```",
        f"```py\nx\n```\n```python\n{right}",
    ):
        assert graded(code(), ADD, text) == (1.0, {"passed": 1.0, "loaded": 1.0}), text
    assert graded(code(), ADD, f"Sure: {right}") == (0.0, {"passed": 0.0, "loaded": 0.0})
    assert graded(code(), ADD, "") == (0.0, {"passed": 0.0, "loaded": 1.0})


def test_all_tests_or_their_share():
    half = "def add(a, b): return 4"
    assert graded(code(), ADD, half) == (0.0, {"passed": 0.5, "loaded": 1.0})
    assert graded(code(fraction=True), ADD, half) == (0.5, {"passed": 0.5, "loaded": 1.0})


BEGUN = Task(
    "t",
    'from typing import List\n\ndef poly(x):\n    return x * x - 4\n\ndef root(xs: List[int]):\n    """A root."""\n',
    None,
    {"test": "def check(candidate):\n    assert poly(candidate([])) == 0\n", "entry_point": "root"},
)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("    return 2\n", 1.0),
        ("    return 3\n", 0.0),
        ("```python\ndef root(xs: List[int]):\n    return 2\n```", 1.0),
        ("    return 3\n\ndef poly(x):\n    return 0\n", 0.0),
        ("def poly(x):\n    return 0\ndef root(xs: List[int]):\n    return 3\n", 0.0),
        ("    pass\ndef check(f): pass\n", 0.0),
        ("", 0.0),
    ],
)
def test_an_answer_goes_on_with_what_is_begun_or_writes_it_anew(answer, score):
    assert code(tests="test", entry_point="entry_point", beginning="prompt")(BEGUN, answer).value == score
    begun = Task("t", ({"role": "user", "content": BEGUN.prompt},), None, BEGUN.data)
    assert code(tests="test", entry_point="entry_point", beginning="prompt")(begun, answer).value == score


def test_a_program_that_reads_and_prints():
    task = Task("t", "q", None, {"cases": [{"input": "1 2\n", "output": "3\n"}, {"input": "2 2", "output": "4"}]})
    reward = code(tests="cases", fraction=True)
    assert graded(reward, task, "print(sum(map(int, input().split())), ' ')") == (1.0, {"passed": 1.0, "loaded": 1.0})
    assert graded(reward, task, "print(3)") == (0.5, {"passed": 0.5, "loaded": 1.0})
    assert graded(reward, task, "print(3); 1 / 0") == (0.0, {"passed": 0.0, "loaded": 0.0})
    assert code(tests="cases", seconds=0.3)(task, "while True: pass").value == 0.0


def test_what_is_the_programs_fault_is_a_zero():
    for program in (
        "while True: pass",
        "import os; os._exit(0)",
        "import os; os.kill(1, 0)",
        "x = b'x' * 10**10",
        "def",
    ):
        assert code(seconds=0.5)(ADD, program).value == 0.0


@pytest.mark.parametrize(
    ("settings", "data", "message"),
    [
        ({}, {"other": 1}, "task t has no column 'tests' with tests; it has other"),
        ({}, {"tests": []}, "holds no text, list of texts"),
        ({}, {"tests": [1]}, "holds no text, list of texts"),
        ({}, {"tests": ["assert f( == 1"]}, "task t: the tests are no Python: SyntaxError"),
        ({"setup": "setup"}, {"tests": ["f()"]}, "no text in the column 'setup'"),
        ({"beginning": "start"}, {"tests": ["f()"], "start": "import no_such"}, "task t: what stands before the tests"),
    ],
)
def test_what_is_not_the_programs_fault_is_a_failure(settings, data, message):
    result = code(**settings)(Task("t", "q", None, data), "def f(): pass")
    assert isinstance(result, Failed) and message in result.reason


@pytest.mark.parametrize("settings", [{"tests": ""}, {"setup": ""}, {"seconds": 0}, {"memory_bytes": 5}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigurationError, match="What to do"):
        code(**settings)


def test_the_deadline_of_grading_lies_above_that_of_the_program():
    with pytest.raises(ConfigurationError, match=r"gives an answer 18 s, and grading gives it up after 10 s"):
        Grader(code(seconds=9))
    with pytest.raises(ConfigurationError, match=r"gives an answer 16 s"):
        Grader(weighted({"a": (code(), 1.0), "b": (code(tests="other"), 1.0), "c": (exact_match(), 1.0)}))
    Grader(code(seconds=9), GradingSettings(timeout_seconds=20)).close()


def test_it_runs_in_grading_processes():
    report = laurel.rewards.check_reward([ADD], code(), settings=GradingSettings(workers=1))
    assert report.passed and report.probes == {"gold": 1, "empty": 1}, str(report)


# Real tasks ---------------------------------------------------------------------------------------------------------

HUMAN_EVAL = {"tests": "test", "entry_point": "entry_point", "beginning": "prompt"}
MBPP = {"tests": "test_list", "setup": "test_setup_code"}


def human_eval():
    path = DATA / "humaneval" / "HumanEval.jsonl.gz"
    return list(laurel.tasks.jsonl(path, prompt="prompt", reference="canonical_solution", id="task_id"))


def mbpp():
    return list(laurel.tasks.jsonl(DATA / "mbpp" / "mbpp.jsonl", prompt="text", reference="code", id="task_id"))


OTHER = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Mod: ast.Mult, ast.FloorDiv: ast.Mult, ast.Lt: ast.GtE,
    ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip


class Changed(ast.NodeTransformer):
    """The first operator, comparison or constant of a function that can be another one."""

    done = False

    def generic_visit(self, node):
        if not self.done and type(node) in OTHER:
            self.done = True
            return OTHER[type(node)]()
        if not self.done and isinstance(node, ast.Constant) and type(node.value) is int:
            self.done = True
            return ast.Constant(node.value + 1)
        return super().generic_visit(node)


def near_misses(program, entry):
    """Programs that are almost the right one: with one thing changed, and with nothing done."""
    tree = ast.parse(program)
    function = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == entry)
    changed = Changed()
    function.body = [changed.visit(node) for node in function.body]
    yield "changed", ast.unparse(tree) if changed.done else None
    function.body = [ast.Pass()]
    yield "pass", ast.unparse(tree)


def scores(reward, asked):
    """In two threads: the work is done by the sandbox's processes."""
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(lambda pair: reward(*pair), asked))


@with_data
def test_a_sample_of_humaneval_and_mbpp():
    tasks, reward = human_eval()[::42], code(**HUMAN_EVAL)
    assert all(score.value == 1.0 for score in scores(reward, [(task, task.reference) for task in tasks]))
    assert all(score.value == 0.0 for score in scores(reward, [(task, "    pass\n") for task in tasks]))
    tasks, reward = [*mbpp()[::300], mbpp()[366]], code(**MBPP)
    assert all(score.value == 1.0 for score in scores(reward, [(task, task.reference) for task in tasks]))
    assert all(score.value == 0.0 for score in scores(reward, [(task, "") for task in tasks]))


@with_data
@pytest.mark.slow
def test_all_of_humaneval():
    """Gold 164 of 164; an empty body passes nowhere; of changed ones those pass whose tests do not tell."""
    tasks, reward = human_eval(), code(**HUMAN_EVAL)
    gold = scores(reward, [(task, task.reference) for task in tasks])
    assert [task.id for task, score in zip(tasks, gold, strict=True) if score.value != 1.0] == []
    whole = scores(reward, [(task, f"```python\n{task.prompt}{task.reference}\n```") for task in tasks])
    assert [task.id for task, score in zip(tasks, whole, strict=True) if score.value != 1.0] == []
    near = {"changed": [], "pass": []}
    for task in tasks:
        for kind, program in near_misses(task.prompt + task.reference, task.data["entry_point"]):
            if program is not None:
                near[kind].append((task, f"```python\n{program}\n```"))
    assert not any(score.value for score in scores(reward, near["pass"]))
    passed = sum(score.value for score in scores(reward, near["changed"]))
    assert len(near["changed"]) >= 150 and passed < 0.15 * len(near["changed"])


@with_data
@pytest.mark.slow
def test_all_of_mbpp():
    tasks, reward = mbpp(), code(**MBPP)
    gold = scores(reward, [(task, task.reference) for task in tasks])
    assert [task.id for task, score in zip(tasks, gold, strict=True) if score.value != 1.0] == []
    cheats = ["import os; os._exit(0)", "print('passed')"]
    asked = [(task, cheat) for task in tasks[::4] for cheat in cheats]
    assert not any(score.value for score in scores(reward, asked))
