"""When two formal statements say the same: up to the names of variables, and by their truth tables."""

from __future__ import annotations

from laurel.errors import FormalError
from laurel.formal.english import IMPLIES, NOT
from laurel.formal.grammar import PROVABLE, Grammar, Term

MOST_VARIABLES = 12
"""Of a truth table, which has 2 to this power rows."""

MOST_SYMBOLS = 4000
"""Of a statement that is read; the time grows with the square of their number."""


def read_statement(system: Grammar, text: str) -> Term:
    """A statement as a policy writes it: with or without the kind in front, and without spaces where every symbol of
    the database is a single character.

    Raises:
        FormalError: it is no statement of the database, or has more than 4000 symbols.
    """
    words = text.split()
    if words[:1] == [PROVABLE]:
        del words[0]
    if system.compact:
        words = list("".join(words))
    if len(words) > MOST_SYMBOLS:
        raise FormalError(f"A statement of {len(words)} symbols is too long.", hint=f"at most {MOST_SYMBOLS}.")
    term = system.term((PROVABLE, *words))
    system.database.goal(" ".join((PROVABLE, *words)))
    return term


def same_up_to_names(system: Grammar, one: Term, other: Term) -> bool:
    """Whether one becomes the other by exchanging variables for others, one to one."""
    return _numbered(system, one) == _numbered(system, other)


def _numbered(system: Grammar, term: Term) -> tuple[object, ...]:
    seen: dict[object, tuple[str, int]] = {}
    for symbol in term:
        if symbol not in system.syntax:
            seen.setdefault(symbol, (system.kind(symbol), len(seen)))
    return tuple(seen.get(symbol, symbol) for symbol in term)


def equivalent(system: Grammar, one: Term, other: Term) -> bool:
    """Whether two statements have the same truth table, variables of the same name being the same.

    Raises:
        FormalError: there are more than 12 variables, or another syntax axiom than "wi" and "wn".
    """
    names = sorted({str(symbol) for term in (one, other) for symbol in term if symbol not in system.syntax})
    return truth_table(system, one, names) == truth_table(system, other, names)


def truth_table(system: Grammar, term: Term, names: list[str]) -> int:
    """The rows in which a statement is true, as the bits of a number; row r makes names[i] true where bit i of r is.

    Raises:
        FormalError: see `equivalent`.
    """
    if len(names) > MOST_VARIABLES:
        raise FormalError(f"A truth table of {len(names)} variables is too large.", hint=f"at most {MOST_VARIABLES}.")
    rows = 1 << len(names)
    everywhere = (1 << rows) - 1
    columns = {name: sum(1 << row for row in range(rows) if row >> place & 1) for place, name in enumerate(names)}
    stack: list[int] = []
    for symbol in reversed(term):
        if symbol == IMPLIES:
            condition, consequence = stack.pop(), stack.pop()
            stack.append((everywhere & ~condition) | consequence)
        elif symbol == NOT:
            stack.append(everywhere & ~stack.pop())
        elif isinstance(symbol, str) and symbol in columns:
            stack.append(columns[symbol])
        else:
            raise FormalError(f"'{symbol}' has no truth table.", hint="take a database of 'wi' and 'wn' alone.")
    return stack[0]
