"""The templates of graders: `{{item.x}}` and `{{sample.output_text}}`, filled in one pass, and nothing else.

What is filled in is never looked at again: an answer that says "{{item.secret}}" is that text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laurel.errors import ConfigurationError
from laurel.tasks.template import nearest

SAMPLE = ("choices", "output_json", "output_text", "output_tools")
"""What there is to know of an answer."""

_FIELD = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"\s*(item|sample)((?:\.\w+|\[\d+\])+)\s*")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


class NoSuchField(Exception):
    """A row lacks what a template reads."""


class NotInTheAnswer(Exception):
    """An answer lacks what a template reads of it: it is not JSON, or has no such key."""


@dataclass(frozen=True)
class Field:
    """`{{item.a.b[0]}}`: the name space, and the way into it."""

    space: str
    path: tuple[str | int, ...]

    def __str__(self) -> str:
        return self.space + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)

    def read(self, spaces: Mapping[str, Any]) -> str:
        """What stands there: text as it is, anything else as JSON.

        Raises:
            NoSuchField, NotInTheAnswer: it is not there.
        """
        value = spaces[self.space]
        for step in self.path:
            try:
                value = value[_step_into(value, step)]
            except (KeyError, IndexError, TypeError, ValueError) as error:
                if self.space == "sample":
                    raise NotInTheAnswer(f"the answer has no {self}") from error
                known = [str(key) for key in value] if isinstance(value, Mapping) else []
                raise NoSuchField(f"the row has no {self}: {nearest(str(step), known)}") from error
        if self.space == "sample" and value is None:
            raise NotInTheAnswer(f"the answer has no {self}")
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class GraderText:
    """A text with fields.

    Args:
        where: what errors call it.

    Raises:
        ConfigurationError: for a field that is none of `item` or `sample`, is broken, or is unknown.
    """

    def __init__(self, text: str, where: str) -> None:
        pieces = _FIELD.split(text)
        self._pieces: list[str | Field] = [
            piece if index % 2 == 0 else _field(piece, where) for index, piece in enumerate(pieces)
        ]
        for piece in self._pieces:
            if isinstance(piece, str) and "{{" in piece:  # what closes alone is JSON, such as {"a": {"b": 1}}
                raise ConfigurationError(
                    f"{where}: the braces that open at {piece[piece.index('{{') :][:40]!r} do not close.",
                    hint="write {{item.name}}.",
                )

    def fill(self, spaces: Mapping[str, Any]) -> str:
        """The text with its fields.

        Raises:
            NoSuchField, NotInTheAnswer: one is not there.
        """
        return "".join(piece if isinstance(piece, str) else piece.read(spaces) for piece in self._pieces)


def _field(written: str, where: str) -> Field:
    match = _PATH.fullmatch(written)
    if match is None:
        raise ConfigurationError(
            f"{where}: cannot understand the field '{{{{{written}}}}}'.",
            hint="write {{item.name}}, {{item.a.b}} or {{sample.output_text}}; there are no other name spaces, and no "
            "expressions.",
        )
    path = tuple(name if name else int(number) for name, number in _STEP.findall(match[2]))
    field = Field(match[1], path)
    if field.space == "sample" and path[0] not in SAMPLE:
        raise ConfigurationError(f"{where}: an answer has no '{path[0]}'.", hint=nearest(str(path[0]), SAMPLE))
    return field


def _step_into(value: Any, step: str | int) -> str | int:
    """A number goes into a list, a name into an object; text has no inside."""
    if isinstance(value, Mapping):
        return str(step)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return int(step)
    raise TypeError(f"{type(value).__name__} has no inside")
