"""The built-in rewards, by hand and on real gold answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import laurel.tasks
from laurel.errors import ConfigurationError
from laurel.rewards import (
    REWARDS,
    Failed,
    check_reward,
    exact_match,
    from_environment,
    math_answer,
    numeric_answer,
    reasoning_gym_answer,
)
from laurel.tasks import Task

DATA = Path(os.environ.get("LAUREL_DATA", Path(__file__).parents[3] / "shared" / "data"))
with_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA} (set LAUREL_DATA)")
GSM8K = {"prompt": "question", "reference": "answer", "extract": "####"}


def test_exact_match():
    task = Task("t", "q", " Paris ")
    assert exact_match()(task, "Paris\n") == 1.0
    assert exact_match()(task, "paris") == 0.0
    assert exact_match(ignore_case=True)(task, "paris") == 1.0
    assert isinstance(exact_match()(Task("t", "q"), "x"), Failed)


def test_numeric_answer():
    task = Task("t", "q", "1,000")
    assert numeric_answer()(task, "It costs $1000.00.") == 1.0
    assert numeric_answer()(task, "It costs $1001.") == 0.0
    assert numeric_answer(tolerance=1)(task, "It costs $1001.") == 1.0
    assert numeric_answer(marker="answer is")(task, "the answer is 1000, not 7") == 1.0
    assert numeric_answer(marker="answer is")(task, "1000") == 0.0
    assert numeric_answer()(task, "") == 0.0
    assert isinstance(numeric_answer()(Task("t", "q", "none"), "1"), Failed)
    assert isinstance(numeric_answer()(Task("t", "q"), "1"), Failed)


@pytest.mark.parametrize("settings", [{"tolerance": -1}, {"tolerance": float("nan")}, {"marker": ""}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigurationError, match="What to do"):
        numeric_answer(**settings)


def test_the_environment_alone_pays():
    assert from_environment()(Task("t", "q"), "x") == 0.0


def test_every_registered_reward_names_itself():
    assert all(name == maker.__name__ for name, maker in REWARDS.items())


@with_data
def test_every_gold_answer_of_gsm8k_counts_and_no_near_miss_does():
    tasks = laurel.tasks.jsonl(DATA / "gsm8k" / "test.jsonl", **GSM8K)
    report = check_reward(tasks, numeric_answer())
    assert report.passed, str(report)
    assert report.probes == dict.fromkeys(("gold", "empty", "another task's gold", "a changed digit"), 1319)
    whole = check_reward(tasks, numeric_answer(), gold="{answer}")
    assert whole.passed, str(whole)


@with_data
def test_every_gold_answer_of_svamp_counts_and_no_near_miss_does():
    rows = json.loads((DATA / "svamp" / "SVAMP.json").read_text(encoding="utf-8"))
    tasks = laurel.tasks.from_iterable(rows, label="svamp", prompt="{Body} {Question}", reference="Answer", id="ID")
    report = check_reward(tasks, numeric_answer())
    assert report.passed and report.probes["gold"] == 1000, str(report)


@with_data
def test_math_answer_on_a_sample_of_gsm8k():
    pytest.importorskip("math_verify", reason="extra math")
    tasks = laurel.tasks.jsonl(DATA / "gsm8k" / "test.jsonl", **GSM8K)
    sample = laurel.tasks.TaskSet("sample", (*tasks[:20], *(task for task in tasks if "," in task.reference)))
    report = check_reward(sample, math_answer(), gold="The answer is \\boxed{{{reference}}}.")
    assert report.passed, str(report)


def test_math_answer_knows_equal_expressions():
    pytest.importorskip("math_verify", reason="extra math")
    tasks = [Task("half", "q", "\\frac{1}{2}"), Task("square", "q", "x^2+2x+1"), Task("root", "q", "2\\sqrt{2}")]
    right = {"half": "\\boxed{0.5}", "square": "$(x+1)^2$", "root": "$\\sqrt{8}$"}
    known = [Task(task.id, task.prompt, task.reference, {"right": right[task.id]}) for task in tasks]
    report = check_reward(known, math_answer(), gold="{right}")
    assert report.passed, str(report)


def test_reasoning_gym_grades_by_its_own_scorer():
    pytest.importorskip("reasoning_gym", reason="extra envs")
    tasks = laurel.tasks.reasoning_gym("leg_counting", size=5, seed=1)
    report = check_reward(tasks, reasoning_gym_answer())
    assert report.passed, str(report)
    assert isinstance(reasoning_gym_answer()(Task("t", "q", "1"), "1"), Failed)


@pytest.mark.parametrize("room", ["tasks", "rewards"])
def test_rooms_import_without_torch(room):
    heavy = "{'torch', 'transformers', 'sympy', 'math_verify', 'reasoning_gym', 'pyarrow'}"
    code = f"import sys, laurel.{room}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
