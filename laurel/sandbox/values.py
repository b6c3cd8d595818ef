"""Python values as JSON, so that a program and those who judge it need not share a process.

Plain data is copied: numbers, text, bytes, lists, tuples, sets, dictionaries, decimals, fractions, dates, ranges, and
built-in types and functions by their names. What else there is (functions, objects of the program's own classes,
generators) stays where it was made, and crosses as a number that only its owner can look up. Nothing that is read here
is evaluated or unpickled, so that a hostile side can send wrong data but nothing else.
"""

from __future__ import annotations

import builtins
import datetime
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

LONGEST = 1 << 26
"""Bytes of one message; more is refused."""

_DATES = {kind.__name__: kind for kind in (datetime.datetime, datetime.date, datetime.time)}
_KEPT = 2**53


def encode(value: Any, keep: Callable[[Any], int]) -> Any:
    """`value` as JSON. `keep` takes what stays here, and gives the number by which it is called.

    Raises:
        RecursionError: for data that contains itself.
    """
    if value is None or value is True or value is False:
        return value
    kind = _kind_of(value)
    if kind is str:
        return str.__str__(value)
    if kind is int:
        number = int(value)
        return number if -_KEPT < number < _KEPT else ["i", hex(number)]
    if kind is float:
        return ["x", float.hex(float(value))]
    if kind in (list, tuple, set, frozenset, deque):
        return [kind.__name__[0:3], [encode(item, keep) for item in kind.__iter__(value)]]
    if kind is dict:
        return [
            "dic",
            [[encode(key, keep), encode(dict.__getitem__(value, key), keep)] for key in dict.__iter__(value)],
        ]
    if kind in (bytes, bytearray):
        return [kind.__name__, bytes(value).hex()]
    if kind is complex:
        return ["c", value.real.hex(), value.imag.hex()]
    if kind is Decimal:
        return ["D", str(value)]
    if kind is Fraction:
        return ["Q", hex(value.numerator), hex(value.denominator)]
    if kind is range:
        return ["r", *(hex(number) for number in (value.start, value.stop, value.step))]
    if kind is datetime.timedelta:
        return ["span", value.days, value.seconds, value.microseconds]
    if kind is not None and kind.__name__ in _DATES:
        return ["date", kind.__name__, value.isoformat()]
    if _is_built_in(value):
        return ["n", value.__name__]
    return ["o", keep(value)]


def decode(data: Any, find: Callable[[int], Any]) -> Any:
    """The value behind JSON. `find` gives what stands for the other side's number.

    Raises:
        ValueError: if the data is none of `encode`'s.
    """
    try:
        return _decode(data, find)
    except (TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"a message that is no value: {type(error).__name__}") from error


def _decode(data: Any, find: Callable[[int], Any]) -> Any:
    if data is None or isinstance(data, bool | int | str):
        return data
    mark, *rest = data
    if mark in _COLLECTIONS:
        return _COLLECTIONS[mark](_decode(item, find) for item in rest[0])
    if mark == "dic":
        return {_decode(key, find): _decode(value, find) for key, value in rest[0]}
    if mark == "o":
        return find(int(rest[0]))
    if mark == "n":
        named = getattr(builtins, rest[0])
        if not _is_built_in(named):
            raise ValueError("no built-in name")
        return named
    return _PLAIN[mark](*rest)


def update(old: Any, new: Any) -> None:
    """Make a list, dictionary, set, byte array or queue say what its copy says after it was worked on, in place."""
    if isinstance(old, list | bytearray):
        old[:] = new
    elif isinstance(old, dict | set):
        old.clear()
        old.update(new)
    elif isinstance(old, deque):
        old.clear()
        old.extend(new)


def _kind_of(value: Any) -> Any:
    """The plain type that a value is of; of several (a named tuple is a tuple) the first."""
    own = type(value)
    return own if own in _PLAIN_KINDS else next((kind for kind in _PLAIN_KINDS if issubclass(own, kind)), None)


def _is_built_in(value: Any) -> bool:
    name = value.__name__ if isinstance(value, type | type(len)) else ""
    return bool(name) and name not in _UNSAFE and getattr(builtins, name, None) is value


_UNSAFE = frozenset(
    {"breakpoint", "compile", "eval", "exec", "input", "open", "__import__", "globals", "locals", "vars"}
)
_PLAIN_KINDS = (
    bool, int, float, str, list, tuple, set, frozenset, dict, bytes, bytearray, complex, deque, Decimal, Fraction,
    range, datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
)  # fmt: skip
_COLLECTIONS: dict[str, Callable[..., Any]] = {"lis": list, "tup": tuple, "set": set, "fro": frozenset, "deq": deque}
_PLAIN: dict[str, Callable[..., Any]] = {
    "i": lambda text: int(text, 16),
    "x": float.fromhex,
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "c": lambda real, imaginary: complex(float.fromhex(real), float.fromhex(imaginary)),
    "D": lambda text: Decimal(text),
    "Q": lambda top, bottom: Fraction(int(top, 16), int(bottom, 16)),
    "r": lambda *numbers: range(*(int(number, 16) for number in numbers)),
    "span": lambda days, seconds, rest: datetime.timedelta(days, seconds, rest),
    "date": lambda kind, text: _DATES[kind].fromisoformat(text),
}
