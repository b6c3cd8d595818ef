"""Graders of the reinforcement-fine-tuning schema, each type by hand: gold answers 1, near misses 0, bad definitions
refused by their key."""

import datetime
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

import laurel
from laurel import recipe
from laurel.errors import ConfigurationError, LaurelError
from laurel.rewards import Failed, Grader, GradingSettings, check_reward, exact_match, grader, weighted
from laurel.rewards.messages import address, find
from laurel.sandbox import kernel
from laurel.tasks import Task

sandboxed = pytest.mark.skipif(kernel.missing() is not None, reason=f"no sandbox here: {kernel.missing()}")

TASK = Task("t", "Capital of Norway?", "Oslo", {"wanted": {"city": "Oslo"}, "weight": 0.5})
ANSWER = "{{sample.output_text}}"
SAME = {"type": "string_check", "name": "same", "operation": "eq", "input": ANSWER, "reference": "{{item.reference}}"}
ALIKE = {"type": "text_similarity", "input": ANSWER, "reference": "Oslo", "evaluation_metric": "fuzzy_match"}
SOURCE = "def grade(sample, item):\n    return len(sample['output_text']) * item['weight']\n"
PYTHON = {"type": "python", "name": "code", "source": SOURCE}
ASK = [
    {"role": "developer", "content": "Judge."},
    {"role": "user", "content": [{"type": "input_text", "text": "{{item.prompt}}"}, ANSWER]},
]
SETTINGS = {"temperature": 0.5, "seed": 3}
SCORE = {"type": "score_model", "model": "judge", "input": ASK, "range": [0, 10], "sampling_params": SETTINGS}
LABELS = ["good", "bad", "odd"]
LABEL = {"type": "label_model", "model": "judge", "input": ASK, "labels": LABELS, "passing_labels": ["good", "odd"]}
MULTI = {"type": "multi", "graders": {"a": SAME}, "calculate_output": "a"}


def value(reward, text, task=TASK):
    result = reward(task, text)
    return result.reason if isinstance(result, Failed) else result.value


@pytest.mark.parametrize(
    ("operation", "text", "score"),
    [
        ("eq", "Oslo", 1), ("eq", "oslo", 0), ("eq", "Oslo ", 0), ("ne", "Oslo", 0), ("ne", "oslo", 1),
        ("like", "It is Oslo.", 1), ("like", "It is oslo.", 0), ("like", "Osl", 0), ("ilike", "OSLO!", 1),
        ("ilike", "", 0),
    ],
)  # fmt: skip
def test_string_check(operation, text, score):
    assert value(grader({**SAME, "operation": operation}), text) == score


def test_cells_of_tables_are_read_as_json_and_what_is_none_is_named():
    row = {"day": datetime.date(2026, 1, 31), "price": Decimal("0.5"), "sizes": np.array([1, 2])}
    task = Task("t", "?", None, row)
    said = {**SAME, "input": "{{item.day}} {{item.price}} {{item.sizes[1]}}", "reference": ANSWER}
    assert value(grader(said), "2026-01-31 0.5 2", task) == 1
    broken = Task("t", "?", None, {"picture": b"GIF"})
    assert value(grader(SAME), "Oslo", broken) == "task t: the row's 'picture' is no JSON: it holds bytes"


@pytest.mark.parametrize(("depth", "score"), [(90, 1), (101, 0), (990, 0), (20_000, 0)])
def test_an_answer_that_is_nested_without_reason_is_text(depth, score):
    first = {**SAME, "operation": "ne", "input": "{{sample.output_json[0]}}", "reference": ""}
    assert value(grader(first), "[" * depth + "]" * depth) == score


def test_templates_reach_into_rows_and_answers():
    deep = {**SAME, "input": "{{sample.output_json.city}}", "reference": "{{item.wanted.city}}"}
    assert value(grader(deep), '{"city": "Oslo"}') == 1
    assert value(grader(deep), '{"city": "Bergen"}') == value(grader(deep), "Oslo") == value(grader(deep), "{}") == 0
    tools = {**SAME, "input": "{{sample.output_tools[0].function.name}}", "reference": "weather"}
    assert value(grader(tools), '<tool_call>{"name": "weather", "arguments": {}}</tool_call>') == 1
    assert value(grader(tools), "weather") == 0
    assert value(grader({**SAME, "input": "{{sample.choices[0].message.content}}"}), "Oslo") == 1
    assert value(grader({**SAME, "input": "{{item.id}}", "reference": "t"}), "") == 1


def test_an_answer_cannot_ask_for_the_reference():
    assert value(grader(SAME), "{{item.reference}}") == 0
    assert (
        value(
            grader({**SAME, "reference": "{{sample.output_text}}", "input": "{{item.reference}}"}), "{{item.reference}}"
        )
        == 0
    )


def test_a_row_without_a_field_is_a_failure_that_names_it():
    reason = value(grader({**SAME, "reference": "{{item.wanted.town}}"}), "Oslo")
    assert reason == "task t: the row has no item.wanted.town: Present: city."


def test_text_similarity():
    assert value(grader(ALIKE), "Oslo") == 1
    assert value(grader(ALIKE), "Olso") == pytest.approx(2 * 3 / 8)
    assert value(grader({**ALIKE, "evaluation_metric": "rouge_1"}), "in oslo") == pytest.approx(2 / 3)


def test_a_model_gives_a_score():
    asked = []

    def judge(messages, temperature, seed):
        asked.append((messages, temperature, seed))
        return 'It is 3, no: {"steps": [], "result": 7.5}'

    assert value(grader(SCORE, models={"judge": judge}), "Oslo {{item.reference}}") == 7.5
    form = 'Answer with one JSON object and nothing else: {"result": <a number from 0 to 10>}'
    assert asked == [
        (
            [
                {"role": "system", "content": "Judge."},
                {"role": "user", "content": f"Capital of Norway?\nOslo {{{{item.reference}}}}\n\n{form}"},
            ],
            0.5,
            3,
        )
    ]


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("7", 7.0), (' {"result": 0} ', 0.0), ('{"result": "2.5"}', 2.5), ('{"result": 1} {"result": 2}', 2.0),
        ("eleven", None), ("11", None), ('{"result": 10.5}', None), ('{"result": true}', None), ("", None),
        ('{"result": NaN}', None), ('{"score": 3}', None), ("I say 7", None), ('{"result": {"result": 4}}', 4.0),
        ('{"result": 4} {"why": "so"}', 4.0),
    ],
)  # fmt: skip
def test_how_a_models_number_is_read(said, score):
    found = value(grader({**SCORE, "sampling_params": None}, models={"judge": lambda messages: said}), "Oslo")
    assert found == score if score is not None else "is no number from 0 to 10" in found


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("good", 1.0),
        (' {"result": "odd"}', 1.0),
        ('{"result": "bad"}', 0.0),
        ("Good", None),
        ("not good", None),
        ("", None),
    ],
)
def test_how_a_models_label_is_read(said, score):
    found = value(grader(LABEL, models={"judge": lambda messages: said}), "Oslo")
    assert found == score if score is not None else "none of the labels good, bad, odd" in found


@sandboxed
def test_source_code_runs_in_the_sandbox():
    assert value(grader(PYTHON), "Oslo") == 2.0
    seen = "import json\ndef grade(sample, item):\n    return float(sample['output_json']['a'] == item['wanted'])\n"
    assert value(grader({**PYTHON, "source": seen}), '{"a": {"city": "Oslo"}}') == 1.0
    cases = {
        "return 1 / 0": "exited with code 1: ZeroDivisionError",
        "return 'x'": "returned 'x', not a finite number",
        "return float('nan')": "not a finite number",
        "return open('/etc/passwd').read()": "PermissionError",
        "import os; os.kill(1, 0)": "was killed for a system call that the sandbox refuses",
        "return x": "NameError",
    }
    for body, reason in cases.items():
        assert reason in value(grader({**PYTHON, "source": f"def grade(sample, item):\n    {body}"}), "Oslo"), body


def test_a_formula_over_graders_keeps_its_parts():
    multi = {
        "type": "multi",
        "graders": {"same": SAME, "alike": ALIKE},
        "calculate_output": "0.5 * same + 0.5 * alike ^ 2",
    }
    assert grader(multi)(TASK, "Oslo").value == 1.0
    score = grader(multi)(TASK, "Olso")
    assert (score.value, dict(score.parts)) == (0.5 * 0.75**2, {"same": 0.0, "alike": 0.75})
    assert grader(multi).parts == ("same", "alike") and grader(SAME).parts == ()
    assert "has no value for same=0" in value(grader({**multi, "calculate_output": "alike / same"}), "Olso")
    judged = {**multi, "graders": {"same": SAME, "judge": LABEL}, "calculate_output": "min(same, judge)"}
    assert value(grader(judged, models={"judge": lambda messages: "?"}), "Oslo").startswith(
        "task t: judge: the model said"
    )
    broken = {**multi, "graders": {"same": {**SAME, "input": "{{sample.output_json.a}}"}, "alike": ALIKE}}
    assert value(grader(broken), "Oslo") == 0.5  # an answer that is no JSON scores 0 where JSON is read


WRONG = {
    "no type": ({**SAME, "type": None}, "the type is None"),
    "another type": ({**SAME, "type": "string"}, "the type is 'string'.*\n.*string_check"),
    "a list for a type": ({**SAME, "type": ["string_check"]}, "the type is .'string_check'"),
    "a list for a model": ({**SCORE, "model": ["judge"]}, "nobody answers for the model .'judge'"),
    "a list of settings": ({**SCORE, "sampling_params": [1]}, "'sampling_params' is .1., no object"),
    "a list for a role": ({**LABEL, "input": [{"role": ["user"], "content": ""}]}, "message 1 is no message"),
    "a missing key": ({k: v for k, v in SAME.items() if k != "operation"}, "the key 'operation' is missing"),
    "an unknown key": ({**SAME, "refrence": "x"}, "unknown key 'refrence'.*\n.*reference"),
    "an unknown operation": ({**SAME, "operation": "equals"}, "operation: unknown key 'equals'"),
    "no text": ({**SAME, "input": 3}, "'input' is 3, not text"),
    "another name space": ({**SAME, "input": "{{prompt}}"}, "input: cannot understand the field"),
    "a metric with data": ({**ALIKE, "evaluation_metric": "meteor"}, "'meteor' needs WordNet"),
    "a metric with a model": ({**ALIKE, "evaluation_metric": "cosine"}, "'cosine' compares the embeddings"),
    "an unknown metric": ({**ALIKE, "evaluation_metric": "rouge_6"}, "unknown key 'rouge_6'"),
    "no one to ask": ({**SCORE, "model": "gpt-x"}, "nobody answers for the model 'gpt-x'. There are: judge"),
    "settings of sampling": ({**SCORE, "sampling_params": {"temp": 1}}, "sampling_params: unknown key 'temp'"),
    "settings nobody takes": ({**SCORE, "sampling_params": {"top_p": 1}}, "cannot be called so: .*top_p"),
    "no range": ({**SCORE, "sampling_params": None, "range": [1, 1]}, r"the range \[1, 1\] is none"),
    "no messages": ({**LABEL, "input": "hello"}, "'input' is no list of messages"),
    "no message": ({**LABEL, "input": [{"role": "robot", "content": ""}]}, "input, message 1 is no message"),
    "a picture": ({**LABEL, "input": [{"role": "user", "content": {"type": "image"}}]}, "'image' cannot be sent"),
    "a label that is none": ({**LABEL, "passing_labels": ["god"]}, "unknown key 'god'.*\n.*'good'"),
    "labels that do not tell": ({**LABEL, "passing_labels": LABELS}, "every answer scores the same"),
    "no labels": ({**LABEL, "labels": []}, "'labels' is empty"),
    "no Python": ({**PYTHON, "source": "def grade(:"}, "the source is no Python"),
    "no function": ({**PYTHON, "source": "def grade(sample): return 1"}, "defines no grade"),
    "a container": ({**PYTHON, "image_tag": "2025-05-08"}, "'image_tag' names a container"),
    "graders as a list": ({**MULTI, "graders": [SAME]}, "no object of named graders"),
    "a name that is a function": ({**MULTI, "graders": {"min": SAME}}, "no formula can name"),
    "a grader nobody reads": ({**MULTI, "graders": {"a": SAME, "b": SAME}}, "does not read 'b'"),
    "multi in multi": ({**MULTI, "graders": {"a": MULTI}}, "a multi grader inside"),
    "wrong inside": ({**MULTI, "graders": {"a": {**SAME, "input": 1}}}, "grader: a: 'input' is 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_definition_is_said_when_it_is_made(name):
    definition, message = WRONG[name]
    with pytest.raises(ConfigurationError, match=message):
        grader(
            definition, models={"judge": lambda messages, temperature=0, seed=0: ""} if "model" in definition else None
        )


def test_a_model_that_no_grader_asks_is_refused():
    with pytest.raises(ConfigurationError, match="no grader asks 'other'"):
        grader(LABEL, models={"judge": print, "other": print})


def test_from_a_file(tmp_path: Path):
    path = tmp_path / "grader.json"
    path.write_text(json.dumps(SAME))
    assert value(grader(path), "Oslo") == value(grader(str(path)), "Oslo") == 1
    for text, message in {"{": "is no JSON", "[]": "holds no object"}.items():
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=message):
            grader(path)
    with pytest.raises(ConfigurationError, match="Cannot read the grader"):
        grader(tmp_path / "none.json")


def judge_of_recipe(messages):
    """Stands in a recipe as module:function."""
    return "good" if "Oslo" in messages[-1]["content"] else "bad"


def test_in_a_recipe(tmp_path: Path):
    (tmp_path / "grader.json").write_text(json.dumps(LABEL))
    made = recipe.component("reward", recipe.rewards(), {"name": "grader", "definition": SAME})
    assert value(made, "Oslo") == 1
    place = f"{__name__}:judge_of_recipe"
    settings = {"name": "grader", "definition": str(tmp_path / "grader.json"), "models": {"judge": place}}
    made = recipe.component("reward", recipe.rewards(), settings)
    assert (value(made, "Oslo"), value(made, "Bergen")) == (1, 0)
    with pytest.raises(LaurelError, match=r"reward 'grader': grader: the type is 'none'"):
        recipe.component("reward", recipe.rewards(), {"name": "grader", "definition": {"type": "none"}})
    with pytest.raises(LaurelError, match=r"models.judge: cannot import"):
        recipe.component("reward", recipe.rewards(), {**settings, "models": {"judge": "no_such:thing"}})


@sandboxed
def test_where_it_runs_and_how_long():
    simple, code = grader(SAME), grader(PYTHON)
    assert simple.runs_in_process and not code.runs_in_process
    for reward in (simple, code):  # grading processes make it again from its definition
        assert find(address(reward)) == reward
    with pytest.raises(ConfigurationError, match="gives an answer 16 s"):
        Grader(weighted({"a": (code, 1.0), "b": (code, 1.0)}))
    both = {"type": "multi", "graders": {"same": SAME, "code": PYTHON}, "calculate_output": "min(same, code)"}
    report = check_reward([TASK], grader(both), settings=GradingSettings(workers=1))
    assert report.passed, str(report)


def test_the_same_as_the_verifier_that_it_copies():
    tasks = [Task(str(n), "q", str(n)) for n in range(5)]
    for text in ("3", "3 ", "4", ""):
        for task in tasks:
            assert value(grader(SAME), text, task) in (exact_match()(task, text), 0)
    assert laurel.rewards.REWARDS["grader"] is grader
