"""Labelled steps from files: what a row becomes, and every way in which it cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from preference_rows import assistant, user, write

from laurel import preferences
from laurel.errors import TaskError
from laurel.preferences import Fault, JudgedSteps, Kind
from laurel.preferences.left_out import BadRow

ROW = {"prompt": "2+2+3?", "completions": ["2+2=4", "4+3=8"], "labels": [True, False]}


def only(row: dict[str, Any], **settings: Any) -> JudgedSteps:
    (found,) = preferences.step_labels(rows=[row], strict=True, **settings)
    assert isinstance(found, JudgedSteps)
    return found


def test_a_row_becomes_one_answer_in_steps() -> None:
    found = only({**ROW, "annotator": 7})
    assert found.steps == ("2+2=4\n", "4+3=8") and found.labels == (1.0, 0.0)
    assert found.answers == ("2+2=4\n4+3=8",) and found.scores == (0.0,)
    assert found.kind is Kind.STEPS and found.data == {"annotator": 7} and found.reference is None


def test_only_an_answer_whose_steps_are_all_right_is_a_reference() -> None:
    assert only({**ROW, "labels": [1, 1]}).reference == "2+2=4\n4+3=8"
    assert only({**ROW, "labels": [1, None]}).reference is None
    half = only({**ROW, "labels": [0.75, None]})
    assert half.labels == (0.75, None) and half.scores == (0.75,)


def test_a_separator_that_is_there_is_not_put_twice_and_others_can_be_chosen() -> None:
    assert only({**ROW, "completions": ["a\n", "b"]}).steps == ("a\n", "b")
    assert only({**ROW, "completions": ["a", "b"]}, separator=" ; ").steps == ("a ; ", "b")
    with pytest.raises(TaskError, match="separator of steps is empty"):
        preferences.step_labels(rows=[ROW], separator="")


def test_conversations_and_files_of_both_kinds(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{**ROW, "prompt": [user("2+2+3?")], "labels": [1.0, None]}]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "set.parquet")
    found = preferences.step_labels(tmp_path / "set.parquet")
    assert found.fingerprint == preferences.step_labels(write(tmp_path, *rows)).fingerprint
    assert found[0].prompt == (user("2+2+3?"),)
    assert only({**ROW, "completions": [assistant("a"), assistant("b")]}).steps == ("a\n", "b")


@pytest.mark.parametrize(
    ("change", "fault", "says"),
    [
        ({"labels": [True]}, Fault.TYPE, "not a label for each of 2 steps"),
        ({"labels": ["good", "bad"]}, Fault.TYPE, "not a label for each"),
        ({"labels": [1, -1]}, Fault.RANGE, "the label -1 of a step does not lie in"),
        ({"labels": [1, float("nan")]}, Fault.RANGE, "the label nan"),
        ({"labels": None}, Fault.SKIPPED, "was skipped"),
        ({"labels": [None, None]}, Fault.SKIPPED, "was skipped"),
        ({"completions": ["a", " "]}, Fault.EMPTY, "a step is empty"),
        ({"completions": [], "labels": []}, Fault.TYPE, "not a label for each of 0 steps"),
        ({"completions": ["a", 3]}, Fault.TYPE, "holds 3, not text"),
        ({"prompt": ""}, Fault.PROMPT, "is empty"),
    ],
)
def test_bad_rows_are_named(change: dict[str, Any], fault: Fault, says: str) -> None:
    rows = [ROW, {**ROW, **change}]
    found = preferences.step_labels(rows=rows)
    assert len(found) == 1 and found.left_out.rows == {fault: (2,)}
    if fault is not Fault.SKIPPED:
        with pytest.raises(BadRow, match=says) as caught:
            preferences.step_labels(rows=rows, strict=True)
        assert caught.value.fault is fault and "row 2" in caught.value.message


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TaskError, match="2 steps and 1 labels among 1"):
        JudgedSteps("a", "p", answers=("xy",), scores=(1.0,), kind=Kind.STEPS, steps=("x", "y"), labels=(1.0,))
    with pytest.raises(TaskError, match="do not all lie"):
        JudgedSteps("a", "p", answers=("x",), scores=(1.0,), kind=Kind.STEPS, steps=("x",), labels=(2.0,))


def test_labels_are_part_of_what_a_set_is() -> None:
    first, second = (preferences.step_labels(rows=[{**ROW, "labels": labels}]) for labels in ([1, 0.5], [0.5, 1]))
    assert first[0].content != second[0].content and first.fingerprint != second.fingerprint
