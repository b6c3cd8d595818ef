"""Controlled English for propositional statements, read exactly: every text has one meaning, or is refused.

    if p then (if q then p)      (not p) implies q      q whenever p      not (p implies q)

Whatever holds more than a variable stands in brackets inside of another, except after "not". The parts are those of
`laurel.formal` databases whose syntax axioms are "wi" (if, then) and "wn" (not).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from laurel.errors import FormalError
from laurel.formal.grammar import Grammar, Term

IMPLIES, NOT = "wi", "wn"

_WORDS = re.compile(r"[()]|[^\s()]+")
_WAYS: tuple[tuple[str, ...], ...] = (
    ("if", "A", "then", "B"),
    ("A", "implies", "B"),
    ("B", "whenever", "A"),
)
"""How an implication from A to B is said."""

_MOST_WORDS = 2000


def read_english(system: Grammar, text: str) -> Term:
    """What a text of controlled English says, as a term of the database. Letter case does not matter.

    Raises:
        FormalError: naming the word, where it is no such text or the database has no such statement.
    """
    words = _WORDS.findall(text.casefold())
    if not 0 < len(words) <= _MOST_WORDS:
        raise FormalError(f"The statement {text[:80]!r} has {len(words)} words.", hint="say it in a few.")
    names = {name.casefold(): name for name in system.kinds}
    keywords = {word for way in _WAYS for word in way if word not in "AB"} | {"not", "(", ")"}
    stack: list[tuple[str, Term]] = []  # ("atom" or "whole", term), or (the word, ())
    for word in words:
        if word in names:
            stack.append(("atom", (names[word],)))
        elif word in keywords:
            stack.append((word, ()))
        else:
            raise FormalError(
                f"The statement {text[:80]!r} has the word '{word[:40]}'.", hint=f"variables: {_few(names)}."
            )
        while _reduced(system, stack):
            pass
    if len(stack) != 1 or stack[0][0] not in ("atom", "whole"):
        raise FormalError(
            f"The statement {text[:80]!r} is no sentence of controlled English.",
            hint="such as: if p then (if q then p). Put what is compound in brackets.",
        )
    return stack[0][1]


def _reduced(system: Grammar, stack: list[tuple[str, Term]]) -> bool:
    """Replace what the top of the stack says by its meaning."""
    kinds = [kind for kind, _ in stack[-4:]]
    if kinds[-2:] == ["not", "atom"]:
        stack[-2:] = [("atom", (_known(system, NOT), *stack[-1][1]))]
        return True
    if len(kinds) >= 3 and kinds[-3] == "(" and kinds[-1] == ")" and kinds[-2] in ("atom", "whole"):
        stack[-3:] = [("atom", stack[-2][1])]
        return True
    for way in _WAYS:
        if kinds[-len(way) :] == ["atom" if part in "AB" else part for part in way]:
            parts = {part: term for part, (_, term) in zip(way, stack[-len(way) :], strict=True)}
            stack[-len(way) :] = [("whole", (_known(system, IMPLIES), *parts["A"], *parts["B"]))]
            return True
    return False


def _known(system: Grammar, label: str) -> str:
    if label not in system.syntax:
        raise FormalError(f"{system.database.name} has no syntax axiom '{label}'.", hint="take another database.")
    return label


def _few(names: dict[str, str]) -> str:
    return ", ".join(sorted(names.values())[:12])


def in_english(system: Grammar, term: Term, choose: Callable[[int], int]) -> str:
    """A text that `read_english` reads as this term.

    Args:
        choose: from how many ways of saying it to the number of one, asked once for each implication.

    Raises:
        FormalError: the term holds another syntax axiom than "wi" and "wn".
    """
    stack: list[tuple[str, bool]] = []  # (text, whether it needs brackets inside of another)
    for symbol in reversed(term):
        if symbol == NOT:
            stack.append((f"not {_part(stack.pop())}", False))
        elif symbol == IMPLIES:
            parts = {"A": _part(stack.pop()), "B": _part(stack.pop())}
            way = _WAYS[choose(len(_WAYS))]
            stack.append((" ".join(parts.get(word, word) for word in way), True))
        elif isinstance(symbol, str) and symbol not in system.syntax:
            stack.append((symbol, False))
        else:
            raise FormalError(f"'{symbol}' has no name in English.", hint="take a database of 'wi' and 'wn' alone.")
    return stack[0][0]


def _part(said: tuple[str, bool]) -> str:
    return f"({said[0]})" if said[1] else said[0]
