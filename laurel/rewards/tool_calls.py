"""A reward for calls of tools: the right name with the right arguments, in a form that can be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from laurel.errors import ConfigurationError
from laurel.tasks.task import Task
from laurel.tree import Failed, Score

_BEGIN, _END = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class ToolCall:
    """See `tool_call`."""

    runs_in_process: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ("format", "name", "arguments")
    column: str | None = None

    def __post_init__(self) -> None:
        if self.column == "":
            raise ConfigurationError("column='' names no column.", hint="name one, or leave it out for the reference.")

    def __call__(self, task: Task, text: str) -> Score | Failed:
        wanted = _wanted(task, self.column)
        if isinstance(wanted, Failed):
            return wanted
        calls = calls_in(text)
        if calls is None:
            return Score(0.0, dict.fromkeys(self.parts, 0.0))
        names = _alike([name for name, _ in calls], [name for name, _ in wanted])
        arguments = names and _alike(calls, wanted)
        return Score(float(arguments), {"format": 1.0, "name": float(names), "arguments": float(arguments)})


def tool_call(*, column: str | None = None) -> ToolCall:
    """1 where the answer calls the right tool with exactly the right arguments, and no other.

    What is wanted: {"name": "weather", "arguments": {"city": "Oslo"}}, or a list of such calls, in whatever order;
    arguments may also be the text of an object, as some chat formats write them. An answer calls a tool by such an
    object in a `<tool_call>` block, as many chat templates write it (one block for each call), by nothing but the
    object (or a list of them), or by nothing but that in one fenced block. Values are compared as JSON values: 1 and
    1.0 are the same number, "1" and true are others; the order of an object's keys does not count. A key that stands
    twice makes an object unreadable.

    The score has the parts `format` (the calls can be read), `name` (all names are right) and `arguments` (all is).

    Args:
        column: with what is wanted; None: the task's reference, as JSON text.

    Raises:
        ConfigurationError: for an empty column's name.
    """
    return ToolCall(column)


def calls_in(text: str) -> list[tuple[str, Any]] | None:
    """The name and the arguments of each call in an answer; None where there is none, or one cannot be read."""
    blocks = _blocks(text)
    if blocks is None:
        return None
    if blocks:
        calls = [_call(_read(block)) for block in blocks]
    else:
        found = _read(_unfenced(text))
        calls = [_call(item) for item in (found if isinstance(found, list) else [found])]
    read = [call for call in calls if call is not None]
    return read if read and len(read) == len(calls) else None


def _blocks(text: str) -> list[str] | None:
    """What stands in each block; None where one does not open or does not close. Every sign is looked at once."""
    blocks: list[str] = []
    place = 0
    while (begin := text.find(_BEGIN, place)) >= 0:
        end = text.find(_END, begin)
        if end < 0 or _END in text[place:begin]:
            return None
        blocks.append(text[begin + len(_BEGIN) : end])
        place = end + len(_END)
    return None if _END in text[place:] else blocks


def _wanted(task: Task, column: str | None) -> list[tuple[str, Any]] | Failed:
    found: Any = task.reference if column is None else task.data.get(column)
    if found is None:
        return Failed(
            f"task {task.id} has no {'reference' if column is None else f'column {column!r}'} to compare with"
        )
    if isinstance(found, str):
        found = _read(found)
    calls = [_call(item) for item in (found if isinstance(found, list) else [found])]
    read = [call for call in calls if call is not None]
    if not read or len(read) != len(calls):
        return Failed(f'task {task.id}: what is wanted is no call such as {{"name": ..., "arguments": {{...}}}}')
    return read


def _call(item: Any) -> tuple[str, Any] | None:
    """Name and arguments of an object that is a call, as several chat formats write it."""
    if isinstance(item, Mapping) and isinstance(item.get("function"), Mapping):
        item = item["function"]
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        return None
    arguments = item.get("arguments", item.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = _read(arguments)
    return (item["name"], arguments) if isinstance(arguments, Mapping) else None


def _read(text: str) -> Any:
    """What a text says as JSON, None if it is none."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _unfenced(text: str) -> str:
    text = text.strip()
    lines = text.split("\n")  # other line ends are signs of JSON texts
    if len(lines) > 2 and lines[0].strip() in ("```", "```json") and lines[-1].strip() == "```":
        return "\n".join(lines[1:-1])
    return text


def _alike(one: list[Any], other: list[Any]) -> bool:
    """Whether two lists hold the same JSON values, in whatever order."""
    if len(one) != len(other):
        return False
    left = list(other)
    for value in one:
        found = next((index for index, item in enumerate(left) if same(value, item)), None)
        if found is None:
            return False
        del left[found]
    return True


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; true is no number, and a number no text."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and isinstance(one, str) == isinstance(other, str)
