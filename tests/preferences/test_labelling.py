"""A person at the keyboard: each key, undo, going on later, and a real terminal with Ctrl-C in the middle."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import laurel
from laurel.errors import TaskError
from laurel.preferences import Fault, Query, TerminalTeacher, label
from laurel.preferences.labelling import questions_of
from laurel.preferences.terminal import visible
from laurel.tasks import Task

QUESTIONS = [{"prompt": f"{n}+{n}?", "answers": [str(2 * n), f"{n}{n}"]} for n in range(1, 5)]


def write(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def keys(pressed: str) -> Callable[[], str]:
    """A keyboard on which these are pressed, and then nothing any more."""
    left = iter(pressed)
    return lambda: next(left, "")


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_key(tmp_path: Path) -> None:
    shown: list[str] = []
    questions, output = write(tmp_path / "q.jsonl", QUESTIONS), tmp_path / "labels.jsonl"
    result = label(questions, output, press=keys("x12=S"), show=shown.append)
    assert [row["ranks"] for row in rows(output)] == [[1, 2], [2, 1], [1, 1], None]
    assert (result.new, result.before, result.left) == (4, 0, 0)
    assert "1 for the first, 1 for the second, 1 equal, 1 skipped. 0 questions" in str(result)
    assert "[1 of 4]" in shown[0] and "1+1?" in shown[0] and "--- 1 ---" in shown[0]
    assert shown[1].startswith("That key means nothing here. 1 the first")


def test_undo_goes_back_as_far_as_the_sitting(tmp_path: Path) -> None:
    questions, output = write(tmp_path / "q.jsonl", QUESTIONS), tmp_path / "labels.jsonl"
    label(questions, output, press=keys("1"), show=lambda text: None)
    shown: list[str] = []
    result = label(questions, output, press=keys("u12uu2q"), show=shown.append)
    assert shown[1] == "there is nothing to take back" and shown.count("taken back") == 2
    assert [(row["prompt"], row["ranks"]) for row in rows(output)] == [("1+1?", [1, 2]), ("2+2?", [2, 1])]
    assert (result.new, result.before, result.left) == (1, 1, 2)


def test_a_sitting_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    questions, output = write(tmp_path / "q.jsonl", QUESTIONS), tmp_path / "labels.jsonl"
    for limit in (1, 2, None):
        label(questions, output, limit=limit, press=keys("1111"), show=lambda text: None)
    assert [row["prompt"] for row in rows(output)] == [row["prompt"] for row in QUESTIONS]
    assert label(questions, output, press=keys("1"), show=lambda text: None).new == 0


@pytest.mark.parametrize("interrupted", ["while it is printed", "while a key is awaited"])
def test_ctrl_c_ends_the_sitting_at_any_time_of_a_question(tmp_path: Path, interrupted: str) -> None:
    questions, output = write(tmp_path / "q.jsonl", QUESTIONS), tmp_path / "labels.jsonl"
    press = keys("12")

    def show(text: str) -> None:
        if interrupted == "while it is printed" and "[3 of 4]" in text:
            raise KeyboardInterrupt

    def key() -> str:
        pressed = press()
        if not pressed:
            raise KeyboardInterrupt
        return pressed

    result = label(questions, output, press=key, show=show)
    assert "2 labels more, 2 in" in str(result) and "2 questions are left" in str(result)
    assert [row["ranks"] for row in rows(output)] == [[1, 2], [2, 1]]


def test_the_sides_fall_by_lot_and_the_seed_fixes_them(tmp_path: Path) -> None:
    many = [{"prompt": f"{n}?", "answers": ["first", "second"]} for n in range(200)]
    questions = write(tmp_path / "q.jsonl", many)
    sides = [[query.answers[0] for query in questions_of(questions, seed)[0]] for seed in (0, 0, 1)]
    assert sides[0] == sides[1] != sides[2]
    assert 70 < sides[0].count("first") < 130


def test_the_forms_of_questions(tmp_path: Path) -> None:
    evaluated = [{"task": "t", "prompt": "2+2?", "answer": answer} for answer in ("4", "5", "4", " ")]
    preferred = [{"prompt": "2+2?", "chosen": "4", "rejected": "5"}, {"prompt": "2+2?", "chosen": "4", "rejected": "4"}]
    three = [{"prompt": "2+2?", "answers": ["4", "5", "6"]}]
    wanted: tuple[tuple[list[dict[str, object]], set[frozenset[str]], int], ...] = (
        (evaluated, {frozenset("45")}, 0),  # type: ignore[arg-type]
        (preferred, {frozenset("45")}, 1),  # type: ignore[arg-type]
        (three, {frozenset("45"), frozenset("46"), frozenset("56")}, 0),  # type: ignore[arg-type]
    )
    for given, pairs, left_out in wanted:
        queries, out = questions_of(write(tmp_path / "q.jsonl", given), 0)
        assert {frozenset(query.answers) for query in queries} == pairs and out.count == left_out


def test_rows_that_cannot_be_asked_about_are_left_out_and_named(tmp_path: Path) -> None:
    """Whatever the form of the others; a broken line is one row's fault."""
    answers = [{"prompt": "2+2?", "answer": "4"}, {"prompt": "2+2?", "answer": "5"}]
    wrong: list[object] = [{"answer": "4"}, {"prompt": None, "answer": "4"}, {"prompt": "2+2?", "answer": 4}, 3]
    path = write(tmp_path / "q.jsonl", [*answers, *wrong])
    path.write_text(path.read_text() + '{"prompt": "2')
    queries, out = questions_of(path, 0)
    assert [set(query.answers) for query in queries] == [{"4", "5"}]
    assert out.rows == {Fault.COLUMN: (3,), Fault.TYPE: (4, 5), Fault.BROKEN: (6, 7)}
    path.write_text('{"broken\n' + "".join(json.dumps(row) + "\n" for row in QUESTIONS))
    queries, out = questions_of(path, 0)
    assert len(queries) == 4 and out.rows == {Fault.BROKEN: (1,)}


def test_answers_in_a_conversation_are_labelled_and_learned_from_as_one(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "2+2?"}]
    path = write(tmp_path / "q.jsonl", [{"prompt": asked, "answer": answer} for answer in ("4", "5")])
    label(path, tmp_path / "labels.jsonl", press=keys("1"), show=lambda text: None)
    (found,) = laurel.preferences.rankings(tmp_path / "labels.jsonl", ranks="ranks")
    assert found.prompt == tuple(asked)


def test_what_is_no_question(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="first row has text"):
        questions_of(write(tmp_path / "q.jsonl", [{"text": "hello"}]), 0)
    with pytest.raises(TaskError, match="no two different answers"):
        questions_of(write(tmp_path / "q.jsonl", [{"prompt": "2+2?", "answer": "4"}] * 2), 0)


def test_control_characters_are_spelled_out() -> None:
    assert visible("a\x1b[2J\tb\nc\u202e") == "a\\x1b[2J\tb\nc\\u202e"
    shown: list[str] = []
    said = TerminalTeacher(keys("1"), shown.append)(Query(Task("t", "?"), ("\x1b[2Jgone", "b")))
    assert said == 1.0 and "\x1b" not in shown[0] and "\\x1b[2Jgone" in shown[0]


def test_a_teacher_at_the_keyboard() -> None:
    shown: list[str] = []
    asked = Query(Task("t", ({"role": "user", "content": "hello"},)), ("4", "5"))
    person = TerminalTeacher(keys("x1 2=S"), shown.append)
    assert [person(asked) for _ in range(4)] == [1.0, 0.0, 0.5, None]
    assert "user: hello" in shown[0] and "--- 2 ---\n5" in shown[0] and "q stop" in shown[0]
    with pytest.raises(KeyboardInterrupt):
        person(asked)


def test_the_name_in_the_package() -> None:
    assert laurel.label is label


class Terminal:
    """`laurel label` in a pseudo-terminal."""

    def __init__(self, folder: Path) -> None:
        self.screen, own = pty.openpty()
        command = [sys.executable, "-m", "laurel", "label", "q.jsonl", "--output", "labels.jsonl"]
        environment = {**os.environ, "PYTHONPATH": str(Path(laurel.__file__).parents[1]), "TERM": "dumb"}
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=own, stdout=own, stderr=own, env=environment, start_new_session=True,
            preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(own)
        self.text = ""

    def until(self, wanted: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while wanted not in self.text:
            ready, _, _ = select.select([self.screen], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {wanted!r} in {self.text!r}"
            try:
                self.text += os.read(self.screen, 4096).decode()
            except OSError as error:  # the terminal is closed
                raise AssertionError(f"no {wanted!r} in {self.text!r}") from error

    def press(self, key: str) -> None:
        self.text = ""
        os.write(self.screen, key.encode())

    def ended(self) -> int:
        status = self.process.wait(60)
        os.close(self.screen)
        return status


def _take_terminal() -> None:
    """Make standard input the terminal that Ctrl-C goes through."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_in_a_real_terminal_keys_need_no_enter_and_nothing_is_lost(tmp_path: Path) -> None:
    write(tmp_path / "q.jsonl", QUESTIONS)
    output = tmp_path / "labels.jsonl"
    terminal = Terminal(tmp_path)
    terminal.until("q quit")
    terminal.press("2")
    terminal.until("[2 of 4]")
    assert [row["ranks"] for row in rows(output)] == [[2, 1]]
    terminal.press("=")
    terminal.until("[3 of 4]")
    terminal.press("u")
    terminal.until("[2 of 4]")
    terminal.press("1")
    terminal.until("[3 of 4]")
    terminal.press("\x03")
    terminal.until("2 questions are left")
    assert terminal.ended() == 0
    assert [row["ranks"] for row in rows(output)] == [[2, 1], [1, 2]]
    again = Terminal(tmp_path)
    again.until("[1 of 2]")
    again.press("s")
    again.until("[2 of 2]")
    os.killpg(again.process.pid, signal.SIGKILL)
    assert again.ended() == -signal.SIGKILL
    assert [row["ranks"] for row in rows(output)] == [[2, 1], [1, 2], None]
