"""Formulas over the scores of graders: a parser of its own, so that nothing is evaluated as Python.

sum     := product (("+" | "-") product)*
product := signed (("*" | "/") signed)*
signed  := "-" signed | "+" signed | power
power   := atom (("**" | "^") signed)?            from the right: 2 ^ 3 ^ 2 is 2 ^ 9; - 2 ^ 2 is - 4
atom    := number | name | function "(" sum ("," sum)* ")" | "(" sum ")"
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from laurel.errors import ConfigurationError, unknown_key

Value = Callable[[Mapping[str, float]], float]

FUNCTIONS: Mapping[str, tuple[Callable[..., float], int | None]] = MappingProxyType(
    {
        "abs": (abs, 1),
        "ceil": (math.ceil, 1),
        "exp": (math.exp, 1),
        "floor": (math.floor, 1),
        "log": (math.log, 1),
        "max": (lambda *numbers: max(numbers), None),
        "min": (lambda *numbers: min(numbers), None),
        "sqrt": (math.sqrt, 1),
    }
)
"""By name, and how many arguments they take; None: one or more."""

_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)|([A-Za-z_]\w*)|(\*\*|[-+*/^(),]))")
LONGEST = 1000
_DEEPEST = 50
_OPERATORS: Mapping[str, Callable[[float, float], float]] = MappingProxyType(
    {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
)


class Formula:
    """A formula, checked when it is made.

        Formula("0.8 * right + 0.2 * min(brief, 1)", ["right", "brief"], "calculate_output")({"right": 1, "brief": 0.5})

    Args:
        names: what it may read; it has to read all of them.
        where: what errors call it.

    Raises:
        ConfigurationError: at which sign it breaks off; for an unknown or unread name.
    """

    def __init__(self, text: str, names: Sequence[str], where: str) -> None:
        if len(text) > LONGEST:
            raise ConfigurationError(
                f"{where}: a formula of {len(text)} signs is too long.", hint=f"at most {LONGEST}."
            )
        self.text = text
        self._where = where
        self._names = tuple(names)
        self._read: set[str] = set()
        self._tokens = self._split(text)
        self._next = 0
        self._value = self._sum(0)
        if self._next < len(self._tokens):
            raise self._broken("an operator")
        unread = [name for name in names if name not in self._read]
        if unread:
            raise ConfigurationError(
                f"{where}: the formula {text!r} does not read '{unread[0]}'.", hint="use it, or remove that grader."
            )

    def __call__(self, scores: Mapping[str, float]) -> float:
        """Its value.

        Raises:
            ArithmeticError, ValueError: if it has none, such as 1 / 0 or log(0).
        """
        value = self._value(scores)
        if not math.isfinite(value):
            raise ArithmeticError("the result is no finite number")
        return float(value)

    def _split(self, text: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        place = 0
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is None:
                raise ConfigurationError(
                    f"{self._where}: the formula {text!r} breaks off at {text[place:].strip()[:20]!r}.", hint=_HINT
                )
            number, name, sign = match.groups()
            found.append(("number", number) if number else ("name", name) if name else ("sign", sign))
            place = match.end()
        return found

    def _sum(self, depth: int) -> Value:
        return self._chain(("+", "-"), self._product, depth)

    def _product(self, depth: int) -> Value:
        return self._chain(("*", "/"), self._signed, depth)

    def _chain(self, signs: Sequence[str], part: Callable[[int], Value], depth: int) -> Value:
        value = part(depth)
        while (sign := self._take(*signs)) is not None:
            value = _joined(_OPERATORS[sign], value, part(depth))
        return value

    def _signed(self, depth: int) -> Value:
        if depth > _DEEPEST:
            raise ConfigurationError(f"{self._where}: the formula is nested too deeply.", hint="write it flatter.")
        sign = self._take("-", "+")
        if sign is None:
            return self._power(depth)
        value = self._signed(depth + 1)
        return value if sign == "+" else lambda scores: -value(scores)

    def _power(self, depth: int) -> Value:
        value = self._atom(depth)
        if self._take("**", "^") is None:
            return value
        return _joined(math.pow, value, self._signed(depth + 1))

    def _atom(self, depth: int) -> Value:
        if self._next == len(self._tokens):
            raise self._broken("a number or a name")
        kind, token = self._tokens[self._next]
        self._next += 1
        if kind == "number":
            number = float(token)
            return lambda scores: number
        if kind == "name":
            return self._named(token, depth)
        if token != "(":
            self._next -= 1
            raise self._broken("a number or a name")
        value = self._sum(depth + 1)
        self._expect(")")
        return value

    def _named(self, name: str, depth: int) -> Value:
        if self._take("(") is None:
            if name not in self._names:
                raise unknown_key(f"{self._where}: a name in {self.text!r}", name, self._names)
            self._read.add(name)
            return lambda scores: scores[name]
        if name not in FUNCTIONS:
            raise unknown_key(f"{self._where}: a function in {self.text!r}", name, FUNCTIONS)
        function, wanted = FUNCTIONS[name]
        arguments = [self._sum(depth + 1)]
        while self._take(","):
            arguments.append(self._sum(depth + 1))
        self._expect(")")
        if wanted is not None and len(arguments) != wanted:
            raise ConfigurationError(f"{self._where}: {name} takes one argument, not {len(arguments)}.", hint=_HINT)
        return lambda scores: function(*(argument(scores) for argument in arguments))

    def _take(self, *signs: str) -> str | None:
        if self._next < len(self._tokens) and self._tokens[self._next] in [("sign", sign) for sign in signs]:
            self._next += 1
            return self._tokens[self._next - 1][1]
        return None

    def _expect(self, sign: str) -> None:
        if self._take(sign) is None:
            raise self._broken(f"'{sign}'")

    def _broken(self, wanted: str) -> ConfigurationError:
        there = f"'{self._tokens[self._next][1]}'" if self._next < len(self._tokens) else "its end"
        return ConfigurationError(
            f"{self._where}: the formula {self.text!r} needs {wanted} where {there} stands.", hint=_HINT
        )


_HINT = f"numbers, names of graders, + - * / ^ ( ) and {', '.join(FUNCTIONS)}."


def _joined(combine: Callable[[float, float], float], left: Value, right: Value) -> Value:
    return lambda scores: combine(left(scores), right(scores))
