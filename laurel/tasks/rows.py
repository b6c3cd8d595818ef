"""Rows to tasks: one place decides what a column may hold, whatever file the rows came from."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laurel.errors import TaskError
from laurel.tasks.extraction import Extractor, extractor
from laurel.tasks.task import Message, Prompt, Task
from laurel.tasks.task_set import TaskSet
from laurel.tasks.template import Template, nearest


@dataclass(frozen=True)
class Columns:
    """How a row becomes a task.

    Attributes:
        prompt: a column's name, or a template with fields in braces. The column holds text, or messages with role and
            content.
        reference: the column of the gold answer; None: there is none.
        id: the column of the id; None: the set's name and the row's number.
        extract: how the gold answer is taken out of the reference column; see `laurel.tasks.extractor`.
        system: a system message to put first; makes a conversation of a text.
        conversation: whether a text becomes the user's message of a conversation, for the policy's chat template.
    """

    prompt: str
    reference: str | None
    id: str | None = None
    extract: str | Extractor | None = None
    system: str | None = None
    conversation: bool = False
    template: Template | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "template", Template(self.prompt) if "{" in self.prompt else None)

    def task(self, row: object, *, set_name: str, number: int, where: str) -> Task:
        """The task of one row; `where` names the row in errors."""
        if not isinstance(row, Mapping):
            raise TaskError(
                f"{where} is no object but {type(row).__name__}.", hint='write rows such as {"question": ...}.'
            )
        used = {self.id, None if self.template else self.prompt, None if self.extract else self.reference}
        return Task(
            id=f"{set_name}-{number}" if self.id is None else _identifier(row, self.id, where),
            prompt=self._prompt(row, where),
            reference=None if self.reference is None else self._reference(row, self.reference, where),
            data={str(key): plain(value, f"{where}, column '{key}'") for key, value in row.items() if key not in used},
        )

    def _prompt(self, row: Mapping[str, Any], where: str) -> Prompt:
        prompt: Prompt
        if self.template is not None:
            prompt = self.template.fill(row, where)
        else:
            value = _cell(row, self.prompt, where, "set prompt=... to the column that holds the question")
            prompt = messages_in(value, where) if isinstance(value, list | tuple) else value
        if not isinstance(prompt, str | tuple):
            raise TaskError(
                f"{where}: the prompt '{self.prompt}' holds {type(prompt).__name__}, not text or messages.",
                hint="give text, or a list of messages with role and content.",
            )
        if not prompt or (isinstance(prompt, str) and not prompt.strip()):
            raise TaskError(f"{where}: the prompt '{self.prompt}' is empty.", hint="remove the row or fill it in.")
        if isinstance(prompt, str) and (self.conversation or self.system is not None):
            prompt = (Message(role="user", content=prompt),)
        if self.system is not None and not isinstance(prompt, str):
            if prompt[0]["role"] == "system":
                raise TaskError(
                    f"{where}: the row brings a system message of its own.", hint="leave the setting `system` out."
                )
            prompt = (Message(role="system", content=self.system), *prompt)
        return prompt

    def _reference(self, row: Mapping[str, Any], column: str, where: str) -> str:
        value = _cell(row, column, where, "set reference=... to the gold answer's column, or to None if there is none")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int | float | decimal.Decimal) or value != value:
            raise TaskError(
                f"{where}: the reference '{column}' holds {value!r}, not text or a number.",
                hint="choose another column, or reference=None.",
            )
        if self.extract is None:
            return str(value)
        answer = extractor(self.extract)(str(value))
        if not answer:
            raise TaskError(
                f"{where}: extract={self.extract!r} finds no answer in the reference '{column}': {str(value)[-60:]!r}.",
                hint="'boxed', a marker that the answer follows (such as '####'), or a function of the text.",
            )
        return answer


def task_set(
    rows: Iterable[tuple[int, str, object]], name: str, columns: Columns, limit: int | None, file: Path | None = None
) -> TaskSet:
    """The set of the first `limit` rows, each given as (number, where it stands, row), of a file where there is one."""
    if limit is not None and limit < 1:
        raise TaskError(f"limit={limit} keeps no task of '{name}'.", hint="leave it out to keep all rows.")
    tasks: list[Task] = []
    for number, where, row in rows:
        tasks.append(row if isinstance(row, Task) else columns.task(row, set_name=name, number=number, where=where))
        if len(tasks) == limit:
            break
    if not tasks:
        raise TaskError(
            f"{file or name} holds no rows.", hint="check that it is the right file and was written completely."
        )
    return TaskSet(name, tuple(tasks))


def plain(value: object, where: str) -> Any:
    """`value` as JSON holds it, since graders read it in another process.

    Raises:
        TaskError: naming `where`, for a value that JSON cannot hold.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, where) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    raise TaskError(f"{where} holds {type(value).__name__}, which JSON cannot.", hint="convert or drop the column.")


def _cell(row: Mapping[str, Any], column: str, where: str, hint: str) -> Any:
    if column not in row:
        raise TaskError(f"{where}: the column '{column}' is missing.", hint=f"{nearest(column, row)} Or {hint}.")
    return row[column]


def _identifier(row: Mapping[str, Any], column: str, where: str) -> str:
    value = _cell(row, column, where, "leave `id` out to number the rows")
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise TaskError(f"{where}: the id '{column}' holds {value!r}.", hint="ids are text or whole numbers.")
    return str(value)


def messages_in(value: Sequence[Any], where: str) -> tuple[Message, ...]:
    """The messages of a conversation as they stand in a row.

    Raises:
        TaskError: one of them is none.
    """
    messages: list[Message] = []
    for index, item in enumerate(value):
        role = item.get("role") if isinstance(item, Mapping) else None
        content = item.get("content") if isinstance(item, Mapping) else None
        if not isinstance(role, str) or not isinstance(content, str):
            raise TaskError(
                f"{where}: message {index} is {item!r}.",
                hint="a message has a role and a content, both text.",
            )
        messages.append(Message(role=role, content=content))
    return tuple(messages)
