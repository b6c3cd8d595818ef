"""A second checker of proofs, slow and written without the first: text is replaced in text, and nothing is shared."""

from __future__ import annotations

import itertools

RULES: dict[str, tuple[list[str], str]] = {
    "wi": (["wff p", "wff q"], "wff C p q"),
    "wn": (["wff p"], "wff N p"),
    "1": (["wff p", "wff q"], "|- C p C q p"),
    "2": (["wff p", "wff q", "wff r"], "|- C C p C q r C C p q C p r"),
    "3": (["wff p", "wff q"], "|- C C N p N q C q p"),
    "D": (["wff p", "wff q", "|- C p q", "|- p"], "|- q"),
    "I": (["wff p"], "|- C p p"),
    "S": (["wff p", "wff q", "wff r", "|- C p q", "|- C q r"], "|- C p r"),
    "X": (["wff p", "wff q"], "|- C N p C p q"),
}
"""What the labels of propositional.mm mean, written down by hand."""


def proves(statement: str, labels: list[str]) -> bool:
    """Whether the labels prove a statement without hypotheses."""
    stack: list[str] = []
    for label in labels:
        if label in [f"w{name}" for name in "pqrstuvwxyz"]:
            stack.append(f"wff {label[1]}")
            continue
        if label not in RULES or len(stack) < len(RULES[label][0]):
            return False
        wanted, given = RULES[label]
        entries = [stack.pop() for _ in wanted][::-1]
        meaning = {}
        for want, entry in zip(wanted, entries, strict=True):
            if want.startswith("wff "):
                if not entry.startswith("wff "):
                    return False
                meaning[want[4:]] = entry[4:]
        if any(filled(want, meaning) != entry for want, entry in zip(wanted, entries, strict=True)):
            return False
        stack.append(filled(given, meaning))
    return stack == [statement]


def filled(pattern: str, meaning: dict[str, str]) -> str:
    return " ".join(meaning.get(word, word) for word in pattern.split(" "))


def tautology(statement: str) -> bool:
    """By its truth table: a statement "|- ..." in Polish notation over C and N."""
    words = statement.split()[1:]
    names = sorted({word for word in words if word not in "CN"})
    return all(true(words, dict(zip(names, row, strict=True))) for row in itertools.product((0, 1), repeat=len(names)))


def true(words: list[str], row: dict[str, int]) -> bool:
    stack: list[bool] = []
    for word in reversed(words):
        if word == "C":
            condition, consequence = stack.pop(), stack.pop()
            stack.append(consequence or not condition)
        elif word == "N":
            stack.append(not stack.pop())
        else:
            stack.append(bool(row[word]))
    assert len(stack) == 1, words
    return stack[0]
