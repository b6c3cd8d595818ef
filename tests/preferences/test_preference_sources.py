"""Pairs, rankings, ratings and thumbs from the field's usual columns; every bad row is named and counted."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from preference_rows import HARMLESS, PAIR, assistant, transcript, user, write

from laurel import preferences
from laurel.errors import TaskError
from laurel.preferences import Fault, Kind, Preference


def only(rows: list[Any], source: Any = preferences.pairs, **settings: Any) -> Preference:
    (found,) = source(rows=rows, strict=True, **settings)
    assert isinstance(found, Preference)
    return found


def test_a_plain_pair_keeps_what_else_the_row_holds() -> None:
    found = only([{**PAIR, "annotator": 7}])
    assert found == Preference("preferences-1", "2+2?", "4", {"annotator": 7}, ("4", "5"), (1.0, 0.0), Kind.PAIR)
    assert found.distinguishes


def test_columns_templates_ids_and_systems() -> None:
    row = {"q": "2+2?", "good": "4", "bad": "5", "key": "a"}
    found = only([row], prompt="{q}\n", chosen="good", rejected="bad", id="key", system="Be brief.")
    assert found.id == "a" and found.answers == ("4", "5")
    assert found.prompt == ({"role": "system", "content": "Be brief."}, user("2+2?\n"))


TURNS = [user("hi"), assistant("yes?"), user("2+2?")]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": TURNS, "chosen": [assistant("4")], "rejected": [assistant("5")]},
        {"prompt": TURNS, "chosen": [*TURNS, assistant("4")], "rejected": [*TURNS, assistant("5")]},
        {"chosen": [*TURNS, assistant("4")], "rejected": [*TURNS, assistant("5")]},
        {"prompt": TURNS, "chosen": "4", "rejected": "5"},
    ],
)
def test_conversations_with_the_prompt_apart_or_in_both_sides(row: dict[str, Any]) -> None:
    found = only([row])
    assert found.prompt == tuple(TURNS) and found.answers == ("4", "5")


def test_a_text_prompt_beside_messages_is_the_users_message() -> None:
    sides = {"chosen": [user("2+2?"), assistant("4")], "rejected": [user("2+2?"), assistant("5")]}
    found = only([{"prompt": "2+2?", **sides}])
    assert found.prompt == (user("2+2?"),) and found.answers == ("4", "5")


def test_transcripts_share_their_start() -> None:
    row = {"chosen": transcript("hi", "yes?", "2+2?", "4"), "rejected": transcript("hi", "yes?", "2+2?", "5")}
    found = only([row])
    assert found.prompt == transcript("hi", "yes?", "2+2?") + "\n\nAssistant:"
    assert found.answers == (" 4", " 5")
    assert found.prompt + found.answers[0] == row["chosen"]
    assert only([row], conversation=True).prompt == tuple(TURNS)
    assert only([row], conversation=True).answers == ("4", "5")


def test_answers_that_begin_alike_are_cut_at_the_turn_not_at_the_first_difference() -> None:
    found = only([{"chosen": transcript("2+2?", "It is 4"), "rejected": transcript("2+2?", "It is 5")}])
    assert found.answers == (" It is 4", " It is 5")


def test_rankings_ties_and_skips() -> None:
    best_first = only([{"prompt": "x", "answers": ["a", "b", "c"]}], preferences.rankings)
    assert best_first.scores == (2.0, 1.0, 0.0) and best_first.reference == "a"
    tied = only([{"prompt": "x", "answers": ["a", "b", "c"], "r": [1, 3, 1]}], preferences.rankings, ranks="r")
    assert tied.scores == (1.5, 0.0, 1.5) and tied.reference is None
    draw = only([{"prompt": "x", "answers": ["a", "b"], "r": [1, 1]}], preferences.rankings, ranks="r")
    assert draw.scores == (0.5, 0.5) and not draw.distinguishes
    rows = [{"prompt": "x", "answers": ["a", "b"], "r": None}, {"prompt": "x", "answers": ["a", "b"], "r": [2, 1]}]
    some = preferences.rankings(rows=rows, ranks="r", strict=True)  # a skip is no error
    assert len(some) == 1 and some.left_out.rows == {Fault.SKIPPED: (1,)}


def test_ratings_and_thumbs() -> None:
    rated = only([{"prompt": "x", "answers": ["a", "b"], "ratings": [3, 5]}], preferences.ratings, low=1, high=5)
    assert rated.scores == (3.0, 5.0) and rated.reference == "b"
    single = only([{"prompt": "x", "answers": "a", "ratings": 2.5}], preferences.ratings, low=1, high=5)
    assert single.answers == ("a",) and single.scores == (2.5,)
    up, down = (only([{"prompt": "x", "completion": "a", "label": up}], preferences.thumbs) for up in (True, 0))
    assert (up.scores, up.reference, down.scores, down.reference) == ((1.0,), "a", (0.0,), None)
    spoken = only([{"prompt": "x", "completion": [assistant("a")], "label": True}], preferences.thumbs)
    assert spoken.answers == ("a",)


def test_files_of_every_form_hold_the_same(tmp_path: Path) -> None:
    rows = [PAIR, {**PAIR, "chosen": "four"}]
    plain = write(tmp_path, *rows)
    packed = tmp_path / "set.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    first = preferences.pairs(plain)
    assert preferences.pairs(packed).fingerprint == first.fingerprint
    assert [task.id for task in first] == ["set-1", "set-2"]
    swapped = preferences.pairs(plain, chosen="rejected", rejected="chosen")
    assert swapped.fingerprint != first.fingerprint
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(TaskError, match="no whole gzip file"):
        preferences.pairs(packed)


def test_parquet_holds_pairs_and_conversations(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"prompt": TURNS, "chosen": [assistant("4")], "rejected": [assistant("5")]}]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "set.parquet")
    assert (
        preferences.pairs(tmp_path / "set.parquet").fingerprint == preferences.pairs(write(tmp_path, *rows)).fingerprint
    )


BAD: list[tuple[str, Any, dict[str, Any], Fault, str]] = [
    ("pairs", {**PAIR, "rejected": "4"}, {}, Fault.IDENTICAL, "both answers are the same"),
    ("pairs", {"chosen": transcript("a", "b"), "rejected": transcript("a", "b")}, {}, Fault.IDENTICAL, "the same"),
    ("pairs", {**PAIR, "rejected": " \n"}, {}, Fault.EMPTY, "an answer is empty"),
    ("pairs", {"chosen": transcript("a", "b"), "rejected": transcript("a", "")}, {}, Fault.EMPTY, "is empty"),
    ("pairs", {**PAIR, "rejected": 5}, {}, Fault.TYPE, "the sides are str and int"),
    ("pairs", {**PAIR, "rejected": [assistant("5")]}, {}, Fault.TYPE, "str and list"),
    ("pairs", {"chosen": [user("x"), {"role": "a"}], "rejected": [user("x")]}, {}, Fault.TYPE, "message 1 is"),
    ("pairs", {"chosen": [user("x")], "rejected": [user("y")]}, {}, Fault.TYPE, "does not end with the assistant"),
    ("pairs", {"prompt": "x", "chosen": "a"}, {}, Fault.COLUMN, "the column 'rejected' is missing"),
    ("pairs", {**PAIR, "prompt": 3}, {}, Fault.PROMPT, "holds int, not text or messages"),
    ("pairs", {**PAIR, "prompt": ""}, {}, Fault.PROMPT, "is empty"),
    ("pairs", [PAIR], {}, Fault.BROKEN, "no object but list"),
    ("pairs", {"chosen": "four", "rejected": "five"}, {}, Fault.COLUMN, "the column 'prompt' is missing"),
    ("pairs", {"chosen": "four", "rejected": transcript("a", "b")}, {}, Fault.DIFFERENT_PROMPTS, "part before"),
    (
        "pairs",
        {"chosen": transcript("a", "b", "c", "d"), "rejected": transcript("a", "b", "x", "d")},
        {},
        Fault.DIFFERENT_PROMPTS,
        "part before",
    ),
    (
        "pairs",
        {"chosen": [user("a"), assistant("4")], "rejected": [user("b"), assistant("5")]},
        {},
        Fault.DIFFERENT_PROMPTS,
        "messages before the answers",
    ),
    (
        "pairs",
        {"prompt": "a", "chosen": [user("b"), assistant("4")], "rejected": [user("b"), assistant("5")]},
        {},
        Fault.DIFFERENT_PROMPTS,
        "messages before the answers",
    ),
    ("pairs", {"chosen": [assistant("4")], "rejected": [assistant("5")]}, {}, Fault.DIFFERENT_PROMPTS, "before"),
    ("rankings", {"prompt": "x", "answers": ["a", "b", "a"]}, {}, Fault.DUPLICATE, "an answer is there twice"),
    ("rankings", {"prompt": "x", "answers": ["a"]}, {}, Fault.TYPE, "at least two"),
    ("rankings", {"prompt": "x", "answers": ["a", 3]}, {}, Fault.TYPE, "holds 3, not text"),
    ("rankings", {"prompt": "x", "answers": ["a", "b"], "r": [1]}, {"ranks": "r"}, Fault.TYPE, "not a number for each"),
    ("rankings", {"prompt": "x", "answers": ["a", "b"], "r": [1, "2"]}, {"ranks": "r"}, Fault.TYPE, "not a number"),
    ("ratings", {"prompt": "x", "answers": "a", "ratings": 6}, {"low": 1, "high": 5}, Fault.RANGE, r"\[1, 5\]"),
    ("ratings", {"prompt": "x", "answers": "a", "ratings": True}, {"low": 0, "high": 5}, Fault.TYPE, "not a number"),
    ("ratings", {"prompt": "x", "answers": "a", "ratings": None}, {"low": 0, "high": 5}, Fault.SKIPPED, "skipped"),
    ("thumbs", {"prompt": "x", "completion": "a", "label": "good"}, {}, Fault.TYPE, "a thumb is one completion"),
    ("thumbs", {"prompt": "x", "completion": "a"}, {}, Fault.COLUMN, "the column 'label' is missing"),
    ("thumbs", {"prompt": "x", "completion": "a", "label": None}, {}, Fault.SKIPPED, "skipped"),
]

GOOD: dict[str, dict[str, Any]] = {
    "pairs": PAIR,
    "rankings": {"prompt": "x", "answers": ["a", "b"], "r": [1, 2]},
    "ratings": {"prompt": "x", "answers": "a", "ratings": 1},
    "thumbs": {"prompt": "x", "completion": "a", "label": True},
}


@pytest.mark.parametrize(("name", "row", "settings", "fault", "message"), BAD)
def test_a_bad_row_is_left_out_and_counted_or_stops_a_strict_reading(
    name: str, row: Any, settings: dict[str, Any], fault: Fault, message: str
) -> None:
    source, good = preferences.SOURCES[name], GOOD[name]
    found = source(rows=[good, row, good], **settings)
    assert len(found) == 2 and found.left_out.rows == {fault: (2,)}
    assert f"1 row left out: {fault.value} (row 2)" in str(found.left_out)
    with pytest.raises(TaskError, match=message):  # where no row is left, the first fault is told
        source(rows=[row], **settings)
    if fault is not Fault.SKIPPED:
        with pytest.raises(TaskError, match=f"row 2(.|\n)*{message}"):
            source(rows=[good, row], strict=True, **settings)


def test_broken_lines_of_a_file_are_left_out_by_their_number(tmp_path: Path) -> None:
    path = write(tmp_path, PAIR, '{"prompt": "x', "", {**PAIR, "chosen": "5"}, PAIR)
    found = preferences.pairs(path)
    assert found.left_out.rows == {Fault.BROKEN: (2,), Fault.IDENTICAL: (4,)} and found.left_out.count == 2
    assert [task.id for task in found] == ["set-1", "set-5"]
    assert str(found.left_out) == "2 rows left out: broken rows (row 2); identical answers (row 4)"
    more = preferences.LeftOut({Fault.EMPTY: (1, 2), Fault.IDENTICAL: tuple(range(3, 10))})
    assert str(more) == "9 rows left out: empty answers (rows 1, 2); identical answers (7 rows: 3, 4, 5, 6, 7, ...)"
    with pytest.raises(TaskError, match="line 2 is broken JSON"):
        preferences.pairs(path, strict=True)


def test_what_was_left_out_goes_with_splits_and_into_the_record() -> None:
    rows = [{**PAIR, "prompt": f"{n}+2?"} for n in range(9)]
    found = preferences.pairs(rows=[*rows, {**PAIR, "chosen": ""}])
    training, held_out = found.split(3)
    assert isinstance(training, preferences.PreferenceSet) and training.left_out == found.left_out
    assert (len(training), len(held_out)) == (6, 3)
    assert found.description["left_out"] == {"empty answers": 1}
    assert found[:2].left_out == found.left_out  # type: ignore[attr-defined]


def test_a_wrong_call_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="either path"):
        preferences.pairs()
    with pytest.raises(TaskError, match="keeps no preference"):
        preferences.pairs(rows=[PAIR], limit=0)
    with pytest.raises(TaskError, match="has no extent"):
        preferences.ratings(rows=[], low=1, high=1)
    with pytest.raises(TaskError, match="holds no rows"):
        preferences.pairs(write(tmp_path))
    with pytest.raises(TaskError, match="Cannot read the file"):
        preferences.pairs(tmp_path / "nowhere.jsonl")
    with pytest.raises(TaskError, match=r"missing column(.|\n)*did you mean 'chosen'"):
        preferences.pairs(rows=[PAIR], chosen="chsen")
    assert len(preferences.pairs(rows=[PAIR, {**PAIR, "prompt": "3+1?"}, PAIR], limit=2)) == 2


@pytest.mark.skipif(not HARMLESS.exists(), reason=f"the real pairs are not at {HARMLESS}: set LAUREL_DATA")
def test_real_pairs() -> None:
    found = preferences.pairs(HARMLESS)
    assert len(found) + found.left_out.count == 2312
    assert {fault: len(rows) for fault, rows in found.left_out.rows.items()} == {
        Fault.DIFFERENT_PROMPTS: 5,
        Fault.EMPTY: 4,
    }
    for task in found:
        assert isinstance(task, Preference) and isinstance(task.prompt, str)
        assert task.prompt.endswith("\n\nAssistant:") and task.distinguishes
        assert not any("\n\nHuman:" in answer for answer in task.answers)
    spoken = preferences.pairs(HARMLESS, conversation=True, limit=50)
    assert all(task.prompt[-1]["role"] == "user" for task in spoken)  # type: ignore[index]


def test_what_was_left_out_of_a_source_counts_once_where_it_is_split() -> None:
    rows = [{**PAIR, "prompt": f"{n}?"} for n in range(6)] + [{**PAIR, "rejected": "4"}]
    training, held = preferences.pairs(rows=rows).split(2)
    assert training.description["left_out"] == {"identical answers": 1} and held.description["left_out"] == {}
    assert len(training) == 4 and len(held) == 2


def test_a_file_of_one_array_and_an_empty_one_are_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "array.json").write_text("[" + ", ".join(['{"prompt": "a"}'] * 2) + "]")
    with pytest.raises(TaskError, match=r"rows=json\.load"):
        preferences.pairs(tmp_path / "array.json")
    with pytest.raises(TaskError, match=r"empty\.jsonl holds no rows"):
        preferences.pairs(write(tmp_path, name="empty.jsonl"))
