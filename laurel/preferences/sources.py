"""Where preferences come from: JSON lines (also gzipped), Parquet, or rows in memory, in the field's usual columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from laurel.errors import TaskError
from laurel.preferences.columns import (
    PairColumns,
    Place,
    PreferenceColumns,
    RankingColumns,
    RatingColumns,
    ThumbColumns,
)
from laurel.preferences.judged_steps import StepColumns
from laurel.preferences.left_out import BadRow, Fault, LeftOut
from laurel.preferences.preference import Preference
from laurel.tasks import Columns, TaskSet
from laurel.tasks.files import parquet_rows, parsed, raw_lines

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class PreferenceSet(TaskSet):
    """A task set of preferences.

    Attributes:
        left_out: the rows of its source that could not be used.
        strict: a row that cannot be used stops whoever finds it, in place of being left out.
    """

    left_out: LeftOut = field(default_factory=LeftOut)
    strict: bool = False

    @property
    def description(self) -> dict[str, Any]:
        """What a run records of the set: that of its tasks, and what was left out of its source."""
        return {**super().description, "type": "PreferenceSet", "left_out": self.left_out.counts}

    def without(self, faults: Mapping[int, BadRow]) -> PreferenceSet:
        """The set without the tasks at these places, which count as left out.

        Raises:
            BadRow: the first of them, if the set is strict.
            TaskError: no task would be left.
        """
        if not faults:
            return self
        first = faults[min(faults)]
        if self.strict:
            raise first
        rows: dict[Fault, list[int]] = {}
        for place, fault in sorted(faults.items()):
            row = getattr(self.tasks[place], "row", None)
            rows.setdefault(fault.fault, []).append(place + 1 if row is None else row)
        left_out = self.left_out.beside(rows)
        kept = tuple(task for place, task in enumerate(self.tasks) if place not in faults)
        if not kept:
            raise _unusable(self.name, left_out, first)
        return replace(self, tasks=kept, left_out=left_out)

    def split(self, held_out: int | float, *, seed: int = 0) -> tuple[TaskSet, TaskSet]:
        """As `TaskSet.split`; what was left out of the source stays with the training set, so that it counts once."""
        training, held = super().split(held_out, seed=seed)
        return training, replace(held, left_out=LeftOut())  # type: ignore[call-arg]


def pairs(
    path: str | Path | None = None,
    *,
    rows: Rows | None = None,
    prompt: str = "prompt",
    chosen: str = "chosen",
    rejected: str = "rejected",
    id: str | None = None,
    system: str | None = None,
    conversation: bool = False,
    limit: int | None = None,
    strict: bool = False,
) -> PreferenceSet:
    """Pairs of which one side was preferred.

        {"prompt": "2+2?", "chosen": "4", "rejected": "5"}
        {"chosen": "\\n\\nHuman: 2+2?\\n\\nAssistant: 4", "rejected": "\\n\\nHuman: 2+2?\\n\\nAssistant: 5"}
        {"prompt": [{"role": "user", "content": "2+2?"}], "chosen": [{"role": "assistant", "content": "4"}], ...}

    In a row without the column `prompt` the prompt is what both sides begin with: the messages before the last, or a
    transcript up to the last "Assistant:". Sides that repeat it beside a prompt of its own are cut there too.

    Args:
        path: a file: `.parquet` (extra `data`), or JSON lines, with `.gz` unpacked.
        rows: rows in memory, in place of a file.
        prompt, id, system, conversation: as `laurel.tasks.Columns`; with `conversation` a transcript becomes messages.
        chosen, rejected: the columns of the two sides.
        limit: keep the first so many usable rows.
        strict: stop at the first row that cannot be used; otherwise such rows are left out, counted and named.

    Raises:
        TaskError: the file cannot be read, no row can be used, or one cannot be and `strict` is set.
    """
    columns = PairColumns(Columns(prompt, None, id, None, system, conversation), chosen, rejected)
    return _read(path, rows, columns, limit, strict)


def rankings(
    path: str | Path | None = None,
    *,
    rows: Rows | None = None,
    prompt: str = "prompt",
    answers: str = "answers",
    ranks: str | None = None,
    id: str | None = None,
    system: str | None = None,
    conversation: bool = False,
    limit: int | None = None,
    strict: bool = False,
) -> PreferenceSet:
    """Two or more answers in an order.

        {"prompt": "2+2?", "answers": ["4", "four", "5"]}                          best first
        {"prompt": "2+2?", "answers": ["5", "4", "four"], "ranks": [3, 1, 1]}      with ranks="ranks"; equal ranks tie

    Args:
        answers, ranks: the columns; without `ranks` the order of the answers is the ranking. A row whose ranks are
            null was skipped.
        path, rows, prompt, id, system, conversation, limit, strict: as `pairs`.

    Raises:
        TaskError: as `pairs`.
    """
    columns = RankingColumns(Columns(prompt, None, id, None, system, conversation), answers, ranks)
    return _read(path, rows, columns, limit, strict)


def ratings(
    path: str | Path | None = None,
    *,
    low: float,
    high: float,
    rows: Rows | None = None,
    prompt: str = "prompt",
    answers: str = "answers",
    ratings: str = "ratings",
    id: str | None = None,
    system: str | None = None,
    conversation: bool = False,
    limit: int | None = None,
    strict: bool = False,
) -> PreferenceSet:
    """Answers with a number each.

        {"prompt": "2+2?", "answers": ["4", "5"], "ratings": [5, 1]}

    Args:
        low, high: the ends of the scale; a rating outside is an error of its row.
        answers, ratings: the columns, each with one value or a list. A row whose ratings are null was skipped.
        path, rows, prompt, id, system, conversation, limit, strict: as `pairs`.

    Raises:
        TaskError: as `pairs`, and for a scale without extent.
    """
    if not low < high:
        raise TaskError(f"A scale from {low} to {high} has no extent.", hint="low is the worst rating, high the best.")
    columns = RatingColumns(Columns(prompt, None, id, None, system, conversation), answers, ratings, low, high)
    return _read(path, rows, columns, limit, strict)


def thumbs(
    path: str | Path | None = None,
    *,
    rows: Rows | None = None,
    prompt: str = "prompt",
    completion: str = "completion",
    label: str = "label",
    id: str | None = None,
    system: str | None = None,
    conversation: bool = False,
    limit: int | None = None,
    strict: bool = False,
) -> PreferenceSet:
    """Single answers that are good or bad.

        {"prompt": "2+2?", "completion": "4", "label": true}

    Args:
        completion, label: the columns. A row whose label is null was skipped.
        path, rows, prompt, id, system, conversation, limit, strict: as `pairs`.

    Raises:
        TaskError: as `pairs`.
    """
    columns = ThumbColumns(Columns(prompt, None, id, None, system, conversation), completion, label)
    return _read(path, rows, columns, limit, strict)


def step_labels(
    path: str | Path | None = None,
    *,
    rows: Rows | None = None,
    prompt: str = "prompt",
    steps: str = "completions",
    labels: str = "labels",
    separator: str = "\n",
    id: str | None = None,
    system: str | None = None,
    conversation: bool = False,
    limit: int | None = None,
    strict: bool = False,
) -> PreferenceSet:
    """Answers in steps, each of which was labelled: what a process reward model is fitted to.

        {"prompt": "2+2+3?", "completions": ["2+2=4", "4+3=8"], "labels": [true, false]}

    Args:
        steps, labels: the columns. A label is true, false, a number in [0, 1] (the probability that the step is right),
            or null for a step that nobody looked at. A row without any label was skipped.
        separator: what ends every step but the last; it is put there where it is not.
        path, rows, prompt, id, system, conversation, limit, strict: as `pairs`.

    Raises:
        TaskError: as `pairs`; for an empty separator.
    """
    if not separator:
        raise TaskError("The separator of steps is empty.", hint=r'such as separator="\n".')
    columns = StepColumns(Columns(prompt, None, id, None, system, conversation), steps, labels, separator)
    return _read(path, rows, columns, limit, strict)


def _read(
    path: str | Path | None, rows: Rows | None, columns: PreferenceColumns, limit: int | None, strict: bool
) -> PreferenceSet:
    if (path is None) == (rows is None):
        raise TaskError("Preferences come from a file or from rows.", hint="give either path=... or rows=...")
    if limit is not None and limit < 1:
        raise TaskError(f"limit={limit} keeps no preference.", hint="leave it out to keep all rows.")
    name = "preferences" if path is None else Path(path).name.partition(".")[0]
    kept: list[Preference] = []
    faults: dict[Fault, list[int]] = {}
    first: BadRow | None = None
    for number, where, row in numbered_rows(path, rows or ()):
        try:
            kept.append(_preference(row, columns, name, number, where))
        except BadRow as error:
            if strict and error.fault is not Fault.SKIPPED:
                raise
            first = first or error
            faults.setdefault(error.fault, []).append(number)
        if len(kept) == limit:
            break
    left_out = LeftOut({fault: tuple(numbers) for fault, numbers in faults.items()})
    if not kept and first is not None:
        raise _unusable(name, left_out, first)
    if not kept:
        raise TaskError(
            f"{path or name} holds no rows.", hint="check that it is the right file and was written completely."
        )
    return PreferenceSet(name, tuple(kept), left_out, strict)


def _unusable(name: str, left_out: LeftOut, first: BadRow) -> TaskError:
    return TaskError(f"No row of '{name}' can be used, {left_out}. The first: {first.message}", hint=first.hint)


def numbered_rows(path: str | Path | None, rows: Rows) -> Iterator[tuple[int, str, object]]:
    """Rows with their numbers and places; a line of a file is still text, so that a broken one is one row's fault."""
    if path is None:
        yield from ((number, f"row {number}", row) for number, row in enumerate(rows, start=1))
    elif Path(path).suffix == ".parquet":
        yield from parquet_rows(Path(path))
    else:
        yield from raw_lines(Path(path))


def _preference(row: object, columns: PreferenceColumns, name: str, number: int, where: str) -> Preference:
    if isinstance(row, bytes):
        try:
            row = parsed(row, where)
        except TaskError as error:
            raise BadRow(Fault.BROKEN, error.message, hint=error.hint) from error
    if not isinstance(row, Mapping):
        array = "of one JSON array give the rows themselves, rows=json.load(file), or " if isinstance(row, list) else ""
        raise BadRow(
            Fault.BROKEN, f"{where} is no object but {type(row).__name__}.", hint=f"{array}write one object per line."
        )
    return columns.preference(row, Place(name, number, where))
