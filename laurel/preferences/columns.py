"""Rows to preferences: which columns hold what, for each kind of judgement."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any, Protocol

from laurel.errors import TaskError
from laurel.preferences.left_out import BadRow, Fault
from laurel.preferences.preference import Kind, Preference, best, scores_of_ranks
from laurel.preferences.transcripts import holds_prompt, shared_prompt
from laurel.tasks import Columns
from laurel.tasks.template import nearest


@dataclass(frozen=True)
class Place:
    """Which row it is: the name of its set, its number, and how errors name it."""

    set_name: str
    number: int
    where: str


class PreferenceColumns(Protocol):
    """Makes a preference of a row."""

    def preference(self, row: Mapping[str, Any], place: Place) -> Preference:
        """The task that a row holds.

        Args:
            row: a row of the file, by column.
            place: where it stands, for the task's id and for messages.

        Raises:
            TaskError: the row cannot be used; it is left out, with the reason.
        """
        ...


@dataclass(frozen=True)
class PairColumns:
    """`chosen` is better than `rejected`. A row without the column `prompt` holds it as the common start of both sides.

    A side is text, or messages of which the last is the answer; messages before it repeat the prompt.
    """

    prompt: Columns
    chosen: str
    rejected: str

    def preference(self, row: Mapping[str, Any], place: Place) -> Preference:
        """See `PreferenceColumns`: scores 1 and 0."""
        where = place.where
        sides = [cell(row, column, where) for column in (self.chosen, self.rejected)]
        # Without a prompt in the sides it stands in its own column, or is said to be missing.
        own_column = self.prompt.template is None and not any(map(holds_prompt, sides))
        if own_column and cell(row, self.prompt.prompt, where) is None:
            raise BadRow(Fault.PROMPT, f"{where}: the prompt '{self.prompt.prompt}' is null.", hint="fill it in.")
        told = self.prompt.template is not None or self.prompt.prompt in row
        own = row[self.prompt.prompt] if told and self.prompt.template is None else None
        template = told and self.prompt.template is not None
        prompt, answers = shared_prompt(own, sides, where, known=template, conversation=self.prompt.conversation)
        complete = row if template else {**row, self.prompt.prompt: prompt}
        return build(self.prompt, complete, answers, (1.0, 0.0), Kind.PAIR, (self.chosen, self.rejected), place)


@dataclass(frozen=True)
class RankingColumns:
    """`answers`, a list, and `ranks`, one number for each: 1 is best, equal ranks are a tie, none at all a skip."""

    prompt: Columns
    answers: str
    ranks: str | None

    def preference(self, row: Mapping[str, Any], place: Place) -> Preference:
        """See `PreferenceColumns`."""
        where = place.where
        answers = texts(cell(row, self.answers, where), self.answers, where)
        if self.ranks is None:
            ranks: Sequence[float] = range(1, len(answers) + 1)
        else:
            given = cell(row, self.ranks, where)
            if given is None:
                raise BadRow(Fault.SKIPPED, f"{where} was skipped.", hint="leave it out, or rank its answers.")
            ranks = numbers(given, self.ranks, len(answers), where)
        if len(answers) < 2:
            raise BadRow(Fault.TYPE, f"{where} ranks {_answers(len(answers))}.", hint="a ranking needs at least two.")
        scores = scores_of_ranks(ranks)
        return build(self.prompt, row, answers, scores, Kind.RANKING, (self.answers, self.ranks), place)


@dataclass(frozen=True)
class RatingColumns:
    """`answers`, one or a list, and `ratings`, one number for each, from `low` to `high`."""

    prompt: Columns
    answers: str
    ratings: str
    low: float
    high: float

    def preference(self, row: Mapping[str, Any], place: Place) -> Preference:
        """See `PreferenceColumns`."""
        where = place.where
        answers = texts(cell(row, self.answers, where), self.answers, where)
        given = cell(row, self.ratings, where)
        if given is None:
            raise BadRow(Fault.SKIPPED, f"{where} was skipped.", hint="leave it out, or rate its answers.")
        ratings = numbers(given, self.ratings, len(answers), where)
        wrong = [rating for rating in ratings if not self.low <= rating <= self.high]
        if wrong:
            raise BadRow(
                Fault.RANGE,
                f"{where}: the rating {wrong[0]:g} does not lie in [{self.low:g}, {self.high:g}].",
                hint="mend the row, or set low and high to the scale that was used.",
            )
        return build(self.prompt, row, answers, ratings, Kind.RATING, (self.answers, self.ratings), place)


@dataclass(frozen=True)
class ThumbColumns:
    """`completion` with `label`: true (or 1) is a thumb up, false (or 0) one down."""

    prompt: Columns
    completion: str
    label: str

    def preference(self, row: Mapping[str, Any], place: Place) -> Preference:
        """See `PreferenceColumns`: one answer, with a score of 1 or 0."""
        where = place.where
        answers = texts(cell(row, self.completion, where), self.completion, where)
        label = cell(row, self.label, where)
        if label is None:
            raise BadRow(Fault.SKIPPED, f"{where} was skipped.", hint="leave it out, or label it true or false.")
        if len(answers) != 1 or label not in (True, False):
            raise BadRow(
                Fault.TYPE,
                f"{where}: {len(answers)} completions with the label {shortened(label)}.",
                hint="a thumb is one completion with true or false.",
            )
        return build(self.prompt, row, answers, (float(label),), Kind.THUMB, (self.completion, self.label), place)


def build(
    prompt: Columns,
    row: Mapping[str, Any],
    answers: Sequence[str],
    scores: Sequence[float],
    kind: Kind,
    used: Collection[str | None],
    place: Place,
) -> Preference:
    """A preference from its parts; what `used` does not name of the row becomes its data.

    Raises:
        BadRow: the prompt cannot be used, an answer is blank, or two are the same.
    """
    where = place.where
    if not answers:
        raise BadRow(Fault.EMPTY, f"{where}: there is no answer.", hint="leave the row out.")
    for answer in answers:
        if not answer.strip():
            raise BadRow(Fault.EMPTY, f"{where}: an answer is empty.", hint="leave the row out.")
    if len(set(answers)) < len(answers):
        if kind is Kind.PAIR:
            raise BadRow(Fault.IDENTICAL, f"{where}: both answers are the same.", hint="leave the row out.")
        raise BadRow(Fault.DUPLICATE, f"{where}: an answer is there twice.", hint="name every answer once.")
    kept = {key: value for key, value in row.items() if key not in used}
    try:
        task = prompt.task(kept, set_name=place.set_name, number=place.number, where=where)
    except TaskError as error:
        fault = Fault.COLUMN if prompt.template is None and prompt.prompt not in row else Fault.PROMPT
        raise BadRow(fault, error.message, hint=error.hint) from error
    return Preference(
        id=task.id,
        prompt=task.prompt,
        reference=best(answers, scores, kind),
        data=task.data,
        answers=tuple(answers),
        scores=tuple(map(float, scores)),
        kind=kind,
        row=place.number,
    )


def cell(row: Mapping[str, Any], column: str, where: str) -> Any:
    """The value of a column.

    Raises:
        BadRow: naming the nearest column there is.
    """
    if column not in row:
        raise BadRow(Fault.COLUMN, f"{where}: the column '{column}' is missing.", hint=nearest(column, row))
    return row[column]


def texts(value: object, column: str, where: str) -> tuple[str, ...]:
    """One answer or a list of them, as texts; a message list of one message is its content."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    found: list[str] = []
    for item in items:
        content = item.get("content") if isinstance(item, Mapping) else item
        if not isinstance(content, str):
            raise BadRow(
                Fault.TYPE,
                f"{where}: the column '{column}' holds {shortened(item)}, not text.",
                hint="an answer is text, or a message with role and content.",
            )
        found.append(content)
    return tuple(found)


def numbers(value: object, column: str, count: int, where: str) -> tuple[float, ...]:
    """One finite number for each of `count` answers."""
    items: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    if not all(map(_finite, items)) or len(items) != count:
        raise BadRow(
            Fault.TYPE,
            f"{where}: the column '{column}' holds {shortened(value)}, not a number for each of {_answers(count)}.",
            hint="write one finite number per answer, in their order.",
        )
    return tuple(map(float, items))


def _finite(value: object) -> bool:
    """Whether a value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _answers(count: int) -> str:
    return f"{count} answer" if count == 1 else f"{count} answers"
