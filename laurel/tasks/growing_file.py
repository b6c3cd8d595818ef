"""A file that grows by whole lines of JSON, each of which is on the disk before anything follows from it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from laurel.errors import TaskError


class GrowingFile:
    """Rows that are kept one by one, each flushed to the disk before `append_row` returns.

    A last line that was cut short, as by a loss of power, was never confirmed: it is cut off. What was never such a
    line is refused in place of that. Half of a surrogate pair, which UTF-8 cannot hold, is kept as JSON escapes it.

    Attributes:
        path: of the file; made with its folders, if need be.
        rows: what it holds, in order.
        noun: what errors call the rows.

    Raises:
        TaskError: the file cannot be written, or one of its lines is no such row; it is then left as it is.
    """

    noun: ClassVar[str] = "rows"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error
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

    def append_row(self, row: Mapping[str, Any]) -> None:
        """Keep a row; it is on the disk when this returns.

        Raises:
            TaskError: it could not be written.
        """
        line = json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        end = self._end
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes were written")
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), end)
            raise self._unwritable(error) from error
        self.rows.append(dict(row))
        self._ends.append(end + len(line))

    def keep(self, count: int) -> list[dict[str, Any]]:
        """Take back all but the first `count` rows; returns what was taken back."""
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
            self._check_cut_short(lines[-1], len(lines))
            os.ftruncate(self._file.fileno(), self._end)
        return rows

    def check(self, row: Mapping[str, Any], where: str) -> None:
        """Whether a line holds such a row.

        Raises:
            TaskError: naming `where`.
        """

    def check_author(self, column: str, author: str) -> None:
        """Whether all rows that say in this column who wrote them, and how, name the same.

        Raises:
            TaskError: naming the first other one.
        """
        other = next((number for number, row in enumerate(self.rows, 1) if row.get(column, author) != author), None)
        if other is not None:
            raise TaskError(
                f"{self.path}, line {other}: another model wrote this, or the same one with other settings.",
                hint="choose another file; files can be joined.",
            )

    def _row(self, line: bytes, number: int) -> dict[str, Any]:
        where = f"{self.path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"{where} is broken JSON: {error}.", hint="mend it, or choose another file.") from error
        if not isinstance(row, dict):
            raise TaskError(f"{where} is no object.", hint="choose another file.")
        self.check(row, where)
        self._ends.append(self._end + len(line) + 1)
        return row

    def _check_cut_short(self, line: bytes, number: int) -> None:
        """Whether a line without an end may be one of these rows, so that it may be cut off."""
        where = f"{self.path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = {} if line.startswith(b"{") else None
        else:
            self.check(row if isinstance(row, dict) else {}, where)
        if row is None:
            raise TaskError(f"{where} is no object.", hint="choose another file.")

    def _unwritable(self, error: OSError) -> TaskError:
        return TaskError(
            f"The {self.noun} {self.path} cannot be written: {error.strerror or error}.", hint="make room, or rights."
        )
