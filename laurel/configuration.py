"""What a run was made of, as data: recorded with the run, and compared when it is resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any


def describe(value: Any, *, leave_out: Sequence[str] = ()) -> Any:
    """Plain JSON data that says what `value` is.

    An object that has a `description` property says it itself; a dataclass is its name and its fields; a function is
    where it can be found. Two runs with equal descriptions and equal seeds do the same.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    own = getattr(value, "description", None)
    if isinstance(own, Mapping | str):
        return describe(own)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items() if key not in leave_out}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **{key: describe(item) for key, item in fields.items()}}
    if isinstance(value, list | tuple | set | frozenset):
        return [describe(item) for item in value]
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    return f"{type(value).__module__}:{type(value).__qualname__}"
