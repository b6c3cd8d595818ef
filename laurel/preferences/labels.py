"""Labels on disk: one line of JSON for every question that was answered, written before the next one is asked.

    {"task": "t1", "prompt": "2+2?", "answers": ["4", "5"], "ranks": [1, 2]}        the first is better
    {"task": "t2", "prompt": "3+3?", "answers": ["six", "6"], "ranks": [1, 1]}      equal
    {"task": "t3", "prompt": "9+9?", "answers": ["1", "2"], "ranks": null}          skipped

`laurel.preferences.rankings(path, ranks="ranks")` reads them back as preferences.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from laurel.errors import TaskError
from laurel.preferences.teachers import Query
from laurel.tasks.rows import messages_in

RANKS: dict[float | None, list[int] | None] = {1.0: [1, 2], 0.0: [2, 1], 0.5: [1, 1], None: None}
"""What a teacher says, and how it is written down."""


def row_of(query: Query, verdict: float | None) -> dict[str, Any]:
    """The line that keeps an answer."""
    prompt = query.task.prompt
    asked = prompt if isinstance(prompt, str) else [dict(message) for message in prompt]
    return {"task": query.task.id, "prompt": asked, "answers": list(query.answers), "ranks": RANKS[verdict]}


def verdict_of(row: Mapping[str, Any]) -> float | None:
    """What was said: 1.0 the first, 0.0 the second, 0.5 equal, None skipped."""
    return next(verdict for verdict, ranks in RANKS.items() if ranks == row["ranks"])


class Labels:
    """A file of labels that grows by whole lines, each flushed to the disk before `append` returns.

        with Labels("labels.jsonl") as labels:
            labels.append(query, 1.0)

    A last line that was cut short, as by a loss of power, was never confirmed: it is cut off.

    Attributes:
        path: of the file; made with its folders, if need be.
        rows: what it holds, in order.

    Raises:
        TaskError: the file cannot be written, or one of its lines is no label; it is then left as it is.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        try:
            self.rows = self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; nothing has to be written any more."""
        self._file.close()

    def append(self, query: Query, verdict: float | None) -> None:
        """Keep one answer; it is on the disk when this returns.

        Raises:
            TaskError: it could not be written.
        """
        self.append_row(row_of(query, verdict))

    def append_row(self, row: Mapping[str, Any]) -> None:
        """Keep a row as it is, as `append` does."""
        line = json.dumps(row, ensure_ascii=False).encode(errors="replace") + b"\n"
        end = self._end
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes were written")
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), end)
            raise _unwritable(self.path, error) from error
        self.rows.append(dict(row))
        self._ends.append(end + len(line))

    def keep(self, count: int) -> list[dict[str, Any]]:
        """Take back all but the first `count` labels; returns what was taken back."""
        taken = self.rows[count:]
        if taken:
            del self.rows[count:], self._ends[count + 1 :]
            os.ftruncate(self._file.fileno(), self._end)
            os.fsync(self._file.fileno())
        return taken

    @property
    def _end(self) -> int:
        return self._ends[-1]

    def _read(self) -> list[dict[str, Any]]:
        self._file.seek(0)
        lines = self._file.read().split(b"\n")
        self._ends = [0]
        rows = [self._row(line, number) for number, line in enumerate(lines[:-1], start=1)]
        if lines[-1]:
            os.ftruncate(self._file.fileno(), self._end)
        return rows

    def _row(self, line: bytes, number: int) -> dict[str, Any]:
        where = f"{self.path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TaskError(f"{where} is broken JSON: {error}.", hint="mend it, or choose another file.") from error
        if not isinstance(row, dict) or not _is_question(row, where) or row.get("ranks", 0) not in RANKS.values():
            raise TaskError(
                f"{where} is no label.", hint="a label has prompt, two answers and ranks; choose another file."
            )
        self._ends.append(self._end + len(line) + 1)
        return dict(row)


def _is_question(row: Mapping[str, Any], where: str) -> bool:
    """Whether a row holds a prompt and two answers.

    Raises:
        TaskError: the prompt is a list, and not of messages.
    """
    asked, answers = row.get("prompt"), row.get("answers")
    if isinstance(asked, list):
        messages_in(asked, where)
    two = isinstance(answers, list) and len(answers) == 2 and all(isinstance(answer, str) for answer in answers)
    return two and isinstance(asked, str | list)


def _unwritable(path: Path, error: OSError) -> TaskError:
    return TaskError(f"The labels {path} cannot be written: {error.strerror or error}.", hint="make room, or rights.")
