"""Rows become tasks, and a row that cannot is named with its line, its column and what to do."""

import datetime
import decimal
import json

import pytest

import laurel.tasks
from laurel.errors import MissingExtraError, TaskError
from laurel.tasks import Task


def write(tmp_path, *lines, name="set.jsonl"):
    path = tmp_path / name
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return path


GOOD = '{"question": "1+1?", "answer": "2", "level": 3}'


def test_a_plain_file(tmp_path):
    tasks = laurel.tasks.jsonl(write(tmp_path, "\ufeff" + GOOD, "", '{"question": "2+2?", "answer": 4.0}'))
    assert list(tasks) == [
        Task("set-1", "1+1?", "2", {"level": 3}),
        Task("set-3", "2+2?", "4", {}),
    ]
    assert tasks.name == "set" and tasks.by_id["set-3"].prompt == "2+2?"


def test_templates_ids_systems_and_limits(tmp_path):
    path = write(tmp_path, GOOD, '{"question": "2+2?", "answer": 4, "level": 1}')
    tasks = laurel.tasks.jsonl(
        path, prompt="{{Q{level}}} {question}\nA: ", id="level", system="Be brief.", limit=1, reference=None
    )
    user = {"role": "user", "content": "{Q3} 1+1?\nA: "}
    assert list(tasks) == [
        Task(
            "3",
            ({"role": "system", "content": "Be brief."}, user),
            None,
            {"question": "1+1?", "answer": "2"},
        )
    ]
    (task,) = laurel.tasks.jsonl(path, conversation=True, limit=1)
    assert task.prompt == ({"role": "user", "content": "1+1?"},)


def test_a_conversation_is_kept(tmp_path):
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}]
    row = json.dumps({"question": [*messages, {"role": "user", "content": "2+2?"}], "answer": "4"})
    (task,) = laurel.tasks.jsonl(write(tmp_path, row))
    assert isinstance(task.prompt, tuple) and task.prompt[2]["content"] == "2+2?"


@pytest.mark.parametrize(
    ("line", "settings", "message"),
    [
        ("", {}, "holds no rows"),
        ('{"question": "x", ', {}, "line 1 is broken JSON"),
        ('[{"question": "x"}]', {}, "line 1 is no object but list"),
        ("[1,", {}, "from_iterable"),
        ("3", {}, "line 1 is no object but int"),
        ("[" * 100_000, {}, "line 1 is broken JSON"),
        (b'{"question": "\xff"}', {}, "line 1 is not UTF-8"),
        (GOOD, {"prompt": "qestion"}, "the column 'qestion' is missing.\n  What to do: did you mean 'question'"),
        (GOOD, {"reference": "ansver"}, "the column 'ansver' is missing.\n  What to do: did you mean 'answer'"),
        (GOOD, {"id": "identity"}, "the column 'identity' is missing"),
        (GOOD, {"prompt": "{qestion}"}, "did you mean 'question'"),
        (GOOD, {"prompt": "{question.__class__}"}, "plain column name"),
        (GOOD, {"prompt": "{question[0]}"}, "plain column name"),
        (GOOD, {"prompt": "{question!r}"}, "plain column name"),
        (GOOD, {"prompt": "{question:>100000000}"}, "plain column name"),
        (GOOD, {"prompt": "{}"}, "plain column name"),
        (GOOD, {"prompt": "{question"}, "is broken"),
        (GOOD, {"extract": "####"}, "finds no answer"),
        (GOOD, {"limit": 0}, "keeps no task"),
        ('{"question": 3, "answer": "2"}', {}, "holds int, not text or messages"),
        ('{"question": null, "answer": "2"}', {}, "holds NoneType"),
        ('{"question": " ", "answer": "2"}', {}, "is empty"),
        ('{"question": [], "answer": "2"}', {}, "is empty"),
        ('{"question": ["hi"], "answer": "2"}', {}, "message 0"),
        ('{"question": [{"role": "user"}], "answer": "2"}', {}, "message 0"),
        ('{"question": [{"role": "system", "content": "x"}], "answer": "2"}', {"system": "y"}, "of its own"),
        ('{"question": "x", "answer": null}', {}, "reference 'answer' holds None"),
        ('{"question": "x", "answer": NaN}', {}, "reference 'answer' holds nan"),
        ('{"question": "x", "answer": ["2"]}', {}, "reference 'answer' holds ['2']"),
        ('{"question": "x", "answer": "2", "n": null}', {"prompt": "{n}"}, "holds NoneType"),
        ('{"question": "x", "answer": "2", "id": ""}', {"id": "id"}, "the id 'id' holds ''"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, line, settings, message):
    with pytest.raises(TaskError) as caught:
        laurel.tasks.jsonl(write(tmp_path, line), **settings)
    assert message in str(caught.value) and "What to do" in str(caught.value)


def test_the_line_of_the_error_is_that_of_the_file(tmp_path):
    with pytest.raises(TaskError, match=r"set\.jsonl, line 4 is broken JSON"):
        laurel.tasks.jsonl(write(tmp_path, GOOD, "", GOOD, "{"))


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(TaskError, match="No such file"):
        laurel.tasks.jsonl(tmp_path / "nowhere.jsonl")
    with pytest.raises(TaskError, match="Cannot read"):
        laurel.tasks.jsonl(tmp_path)


def test_two_rows_with_one_id_are_named(tmp_path):
    with pytest.raises(TaskError, match="has the id '3' twice: tasks 0 and 1"):
        laurel.tasks.jsonl(write(tmp_path, GOOD, GOOD), id="level")


def test_an_iterable_is_read_only_as_far_as_wanted():
    def rows():
        yield {"question": "a", "answer": 1}
        yield Task("own", "b", "2")
        raise AssertionError("read too far")

    tasks = laurel.tasks.from_iterable(rows(), label="mine", limit=2)
    assert [task.id for task in tasks] == ["mine-1", "own"]
    with pytest.raises(TaskError, match="mine, row 1 is no object but str"):
        laurel.tasks.from_iterable(["text"], label="mine")
    with pytest.raises(TaskError, match="column 'x' holds object"):
        laurel.tasks.from_iterable([{"question": "q", "answer": "a", "x": object()}])


def test_parquet_agrees_with_json_lines(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="extra data")
    from pyarrow import parquet

    rows = [json.loads(GOOD), {"question": "2+2?", "answer": "4", "level": 1}]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "set.parquet")
    lines = write(tmp_path, *map(json.dumps, rows))
    assert laurel.tasks.parquet(tmp_path / "set.parquet").fingerprint == laurel.tasks.jsonl(lines).fingerprint


def test_parquet_dates_and_errors(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="extra data")
    from pyarrow import parquet

    row = {"question": "q", "answer": decimal.Decimal("1.50"), "day": datetime.date(2024, 1, 2)}
    parquet.write_table(arrow.Table.from_pylist([row]), tmp_path / "set.parquet")
    (task,) = laurel.tasks.parquet(tmp_path / "set.parquet")
    assert task.reference == "1.50" and task.data == {"day": "2024-01-02"}
    with pytest.raises(TaskError, match="row 1: the column 'x' is missing"):
        laurel.tasks.parquet(tmp_path / "set.parquet", prompt="x")
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "set.parquet").read_bytes()[:-20])
    for name, message in (("torn", "no whole Parquet file"), ("nowhere", "Cannot read")):
        with pytest.raises(TaskError, match=message):
            laurel.tasks.parquet(tmp_path / f"{name}.parquet")


def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"laurel-rl\[data\]"):
        laurel.tasks.parquet(tmp_path / "set.parquet")
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym", None)
    with pytest.raises(MissingExtraError, match=r"laurel-rl\[envs\]"):
        laurel.tasks.reasoning_gym("leg_counting", size=1)


def test_reasoning_gym():
    pytest.importorskip("reasoning_gym", reason="extra envs")
    tasks = laurel.tasks.reasoning_gym("leg_counting", size=3, seed=7, template="{question}\nAnswer: ")
    again = laurel.tasks.reasoning_gym("leg_counting", size=3, seed=7, template="{question}\nAnswer: ")
    other = laurel.tasks.reasoning_gym("leg_counting", size=3, seed=8)
    assert tasks.fingerprint == again.fingerprint != other.fingerprint
    assert tasks[0].prompt.endswith("\nAnswer: ") and tasks[0].reference.isdigit()
    assert json.loads(json.dumps(tasks[0].data)) == tasks[0].data
    with pytest.raises(TaskError, match="did you mean 'leg_counting'"):
        laurel.tasks.reasoning_gym("leg_countin", size=1)
    with pytest.raises(TaskError, match="refuses the settings"):
        laurel.tasks.reasoning_gym("leg_counting", size=1, settings={"legs": 3})
