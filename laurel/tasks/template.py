"""Prompt templates: named fields in braces and nothing else, so that a template can reach nothing but the row."""

from __future__ import annotations

import difflib
import string
from collections.abc import Iterable, Mapping
from typing import Any

from laurel.errors import TaskError


def nearest(name: str, present: Iterable[str]) -> str:
    """A hint for a column that is not there: the nearest one that is, and all of them."""
    names = sorted(present)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return (f"did you mean '{near[0]}'? " if near else "") + f"Present: {', '.join(names) or 'none'}."


class Template:
    """A text with fields: `"{question}\\nAnswer: "`. A literal brace is doubled.

    Fields are plain column names. Attributes, indices, conversions and format specifications are refused.

    Raises:
        TaskError: if the text is no such template.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._parts = [
                (literal, field, spec, kind) for literal, field, spec, kind in string.Formatter().parse(text)
            ]
        except ValueError as error:
            raise TaskError(f"The template {text!r} is broken: {error}.", hint="double a literal brace.") from error
        for _, field, spec, kind in self._parts:
            if field is not None and (not field.isidentifier() or spec or kind):
                written = field + (f"!{kind}" if kind else "") + (f":{spec}" if spec else "")
                raise TaskError(
                    f"The template {text!r} has the field '{{{written}}}'.",
                    hint="a field is a plain column name such as {question}; double a literal brace.",
                )

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that the template reads."""
        return tuple(dict.fromkeys(field for _, field, _, _ in self._parts if field is not None))

    def fill(self, row: Mapping[str, Any], where: str) -> str:
        """The text for one row.

        Raises:
            TaskError: naming `where`, if a column is missing or holds no text or number.
        """
        filled: list[str] = []
        for literal, field, _, _ in self._parts:
            filled.append(literal)
            if field is not None:
                filled.append(_text(row, field, where))
        return "".join(filled)


def _text(row: Mapping[str, Any], field: str, where: str) -> str:
    if field not in row:
        raise TaskError(f"{where}: the column '{field}' of the template is missing.", hint=nearest(field, row))
    value = row[field]
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise TaskError(
        f"{where}: the column '{field}' of the template holds {type(value).__name__}, not text or a number.",
        hint="choose another column, or build the prompt yourself with laurel.tasks.from_iterable.",
    )
