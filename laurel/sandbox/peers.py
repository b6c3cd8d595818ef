"""Two processes that use each other's functions, over two pipes: the tests, and the program that they test.

The one that tests may do with the program's objects what Python code does with an object: call it, read and set
attributes, index, iterate, ask for its length or truth. The program may call the functions that it was given, and
nothing else: no attribute, no item of the other side is within its reach. An object of the other side is equal to
itself alone, and contains what it yields when it is iterated: what it says of that itself is not asked, since a program
could say that everything is equal.
"""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from laurel.sandbox import values


class Gone(Exception):
    """The other side has closed, or sent what is no message."""


class Unsendable(Exception):
    """A value that may not cross to the other side."""


class Remote:
    """An object that lives on the other side."""

    __slots__ = ("_number", "_peer")

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __call__(self, *positional: Any, **named: Any) -> Any:
        return _ask(self, "call", list(positional), named)

    def __getattr__(self, name: str) -> Any:
        return _ask(self, "attribute", [name], {})

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "set", [name, value], {})

    def __getitem__(self, key: Any) -> Any:
        return _ask(self, "item", [key], {})

    def __setitem__(self, key: Any, value: Any) -> None:
        _ask(self, "set item", [key, value], {})

    def __len__(self) -> int:
        return int(_ask(self, "length", [], {}))

    def __bool__(self) -> bool:
        return bool(_ask(self, "truth", [], {}))

    def __str__(self) -> str:
        return str(_ask(self, "text", [], {}))

    def __iter__(self) -> Iterator[Any]:
        return iter(_ask(self, "iterator", [], {}).__next__, _NEVER)

    def __next__(self) -> Any:
        return _ask(self, "next", [], {})


_NEVER = object()


def _ask(remote: Remote, action: str, positional: list[Any], named: dict[str, Any]) -> Any:
    peer: Peer = object.__getattribute__(remote, "_peer")
    return peer.ask(action, object.__getattribute__(remote, "_number"), positional, named)


class Peer:
    """One side.

    Args:
        source, sink: descriptors of the pipes.
        names: what the other side may ask for by name (the program's module); None: nothing, and of the objects that
            it was sent it may only call functions.
    """

    def __init__(self, source: int, sink: int, names: dict[str, Any] | None = None) -> None:
        self._source = os.fdopen(source, "rb")
        self._sink = sink
        self._names = names
        self._kept: dict[int, Any] = {}

    def ask(self, action: str, target: int | str, positional: list[Any], named: dict[str, Any]) -> Any:
        """What the other side answers; while it works, its own questions are answered.

        Raises:
            Gone: see there. What the other side raised, as the nearest built-in exception.
        """
        sent = [self._encode(item) for item in positional]
        self._send([action, target, sent, {name: self._encode(value) for name, value in named.items()}])
        while True:
            message = self._receive()
            if message and message[0] in ("value", "raised"):
                break
            self._answer(message)
        if message[0] == "raised":
            raise self._error(message)
        try:
            _, value, changed = message
            for index, new in changed:
                values.update(positional[int(index)], values.decode(new, self._remote))
            return values.decode(value, self._remote)
        except (ValueError, TypeError, IndexError) as error:
            raise Gone("the other side sent no answer") from error

    def serve(self) -> None:
        """Answer questions until the other side closes."""
        while True:
            try:
                message = self._receive()
            except Gone:
                return
            self._answer(message)

    def _answer(self, message: Any) -> None:
        try:
            action, target, sent, named = message
            positional = [values.decode(item, self._remote) for item in sent]
            value = self._do(action, target, positional, {k: values.decode(v, self._remote) for k, v in named.items()})
            after = [self._encode(item) for item in positional]
            changed = [[i, new] for i, new in enumerate(after) if sent[i] != new]
            reply = ["value", self._encode(value), changed]
        except Gone:
            raise
        except BaseException as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            reply = ["raised", kinds, [item for item in error.args if isinstance(item, str | int | float)][:4]]
        self._send(reply)

    def _do(self, action: str, target: int | str, positional: list[Any], named: dict[str, Any]) -> Any:
        if action == "name":
            if self._names is None or target not in self._names:
                raise NameError(f"name {target!r} is not defined")
            return self._names[str(target)]
        kept = self._kept[int(target)]
        if action == "call":
            return kept(*positional, **named)
        if self._names is None:
            raise PermissionError("only functions may be called")
        return _ACTIONS[action](kept, *positional)

    def _encode(self, value: Any) -> Any:
        return values.encode(value, self._keep)

    def _keep(self, value: Any) -> int:
        if isinstance(value, Remote):
            if object.__getattribute__(value, "_peer") is not self:
                raise Unsendable("an object of a third side")
            return -1 - int(object.__getattribute__(value, "_number"))
        if self._names is None and not callable(value):
            raise Unsendable(f"the tests hand a {type(value).__name__} to the program, which cannot cross to it")
        self._kept[len(self._kept)] = value
        return len(self._kept) - 1

    def _remote(self, number: int) -> Any:
        """A negative number is one of ours that comes home."""
        return self._kept[-1 - number] if number < 0 else Remote(self, number)

    def _send(self, message: Any) -> None:
        line = json.dumps(message).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._sink, line) :]
        except OSError as error:
            raise Gone("the other side has closed") from error

    def _receive(self) -> Any:
        line = self._source.readline(values.LONGEST)
        if not line.endswith(b"\n"):
            raise Gone("the other side has closed" if not line else "a message without end")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Gone("the other side sent what is no message") from error
        if not isinstance(message, list) or not message:
            raise Gone("the other side sent what is no message")
        return message

    def _error(self, message: Any) -> BaseException:
        """The nearest built-in exception; one that would end this process is told instead."""
        try:
            _, kinds, arguments = message
            found = [getattr(builtins, str(kind), None) for kind in kinds]
            kind = next(k for k in found if isinstance(k, type) and issubclass(k, Exception))
            return kind(*[item for item in arguments if isinstance(item, str | int | float)])
        except (ValueError, TypeError, StopIteration):
            return RuntimeError(f"the program raised {str(message)[:200]}")


_ACTIONS: dict[str, Callable[..., Any]] = {
    "attribute": getattr,
    "set": setattr,
    "item": lambda kept, key: kept[key],
    "set item": lambda kept, key, value: kept.__setitem__(key, value),
    "length": len,
    "truth": bool,
    "text": str,
    "iterator": iter,
    "next": next,
}
