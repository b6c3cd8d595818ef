"""Labels on disk: whole lines, read back as preferences, taken back, and safe from what cuts a file short."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import pytest

from laurel.errors import TaskError
from laurel.preferences import Fault, Labels, Query, rankings
from laurel.preferences.labels import verdict_of
from laurel.tasks import Task

ASKED = [Query(Task(f"t{n}", f"{n}+{n}?"), (str(2 * n), "0")) for n in range(1, 5)]
SAID = [1.0, 0.0, 0.5, None]


def written(path: Path) -> Labels:
    labels = Labels(path)
    for query, verdict in zip(ASKED, SAID, strict=True):
        labels.append(query, verdict)
    return labels


def test_every_verdict_is_a_line_and_comes_back_as_a_preference(tmp_path: Path) -> None:
    path = tmp_path / "new" / "labels.jsonl"
    with written(path) as labels:
        assert json.loads(path.read_text().splitlines()[1]) == labels.rows[1]
        assert labels.rows[1] == {"task": "t2", "prompt": "2+2?", "answers": ["4", "0"], "ranks": [2, 1]}
    with Labels(path) as again:
        assert [verdict_of(row) for row in again.rows] == SAID
    found = rankings(path, ranks="ranks")
    assert [task.scores for task in found] == [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]  # type: ignore[attr-defined]
    assert found.left_out.rows == {Fault.SKIPPED: (4,)}


def test_conversations_keep_their_messages(tmp_path: Path) -> None:
    spoken = Query(Task("t", ({"role": "user", "content": "grüß dich"},)), ("hallo", "no"))
    with Labels(tmp_path / "labels.jsonl") as labels:
        labels.append(spoken, 1.0)
    assert rankings(tmp_path / "labels.jsonl", ranks="ranks")[0].prompt == spoken.task.prompt


def test_labels_are_taken_back_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with written(path) as labels:
        assert [row["task"] for row in labels.keep(2)] == ["t3", "t4"]
        assert labels.keep(5) == [] and len(path.read_text().splitlines()) == 2
        labels.append(ASKED[3], 0.5)
    with Labels(path) as again:
        assert [row["task"] for row in again.rows] == ["t1", "t2", "t4"]


@pytest.mark.parametrize("cut", [1, 20])
def test_a_line_that_was_cut_short_goes_and_the_others_stay(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    written(path).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with Labels(path) as again:
        assert [row["task"] for row in again.rows] == ["t1", "t2", "t3"]
        again.append(ASKED[3], None)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("text", ["my notes", '{"type": "multi"}', "[1]", "[" * 100_000])
def test_a_file_of_something_else_is_left_as_it_is_also_without_a_last_line_end(text: str, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text(text)
    with pytest.raises(TaskError, match="line 1 is no"):
        Labels(path)
    assert path.read_text() == text


def test_signs_that_utf_8_cannot_hold_are_kept(tmp_path: Path) -> None:
    query = Query(Task("t", "p\ud83d"), ("a\udc00", "b\u2028\\ud800"))
    with Labels(tmp_path / "labels.jsonl") as labels:
        labels.append(query, 1.0)
    with Labels(tmp_path / "labels.jsonl") as again:
        assert again.rows == labels.rows and tuple(again.rows[0]["answers"]) == query.answers


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        '{"prompt": "?", "answers": ["a"], "ranks": null}',
        '{"answers": ["a", "b"]}',
        '{"prompt": [1], "answers": ["a", "b"], "ranks": [1, 2]}',
        '{"prompt": [{"role": "user"}], "answers": ["a", "b"], "ranks": [1, 2]}',
        '{"prompt": "?", "answers": ["a", 2], "ranks": [1, 2]}',
    ],
)
def test_another_file_is_refused_and_left_as_it_is(line: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text(f"{line}\nunfinished")
    with pytest.raises(TaskError, match="line 1"):
        Labels(path)
    assert path.read_text() == f"{line}\nunfinished"
    with pytest.raises(TaskError, match="cannot be written"):
        Labels(tmp_path)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """The kernel's own limit on the size of a file stands in for a full disk."""
    path = tmp_path / "labels.jsonl"
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with written(path) as labels:
        size = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
        try:
            with pytest.raises(TaskError, match="cannot be written"):
                labels.append(ASKED[0], 1.0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert path.stat().st_size == size and len(labels.rows) == 4
        labels.append(ASKED[0], 1.0)
    with Labels(path) as again:
        assert len(again.rows) == 5
