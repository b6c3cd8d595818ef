"""Rows that cannot be used: what is wrong with each, and how many there are of every kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from laurel.errors import TaskError

_ROWS_SHOWN = 5


class Fault(StrEnum):
    """Why a row is left out; the value is how reports say it."""

    BROKEN = "broken rows"
    COLUMN = "missing columns"
    TYPE = "values of the wrong type"
    PROMPT = "unusable prompts or further columns"
    DIFFERENT_PROMPTS = "prompts that differ between the two sides"
    EMPTY = "empty answers"
    IDENTICAL = "identical answers"
    DUPLICATE = "rankings with duplicates"
    RANGE = "ratings out of range"
    SKIPPED = "skipped by whoever judged"
    TOO_LONG = "too long for the policy's context"
    STEPS = "steps whose ends are not between tokens"
    FRACTION = "ratings between two levels of the likelihood"


class BadRow(TaskError):
    """One row that cannot be used; `fault` says of which kind."""

    def __init__(self, fault: Fault, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.fault = fault


@dataclass(frozen=True)
class LeftOut:
    """What was left out of a set.

    Attributes:
        rows: the numbers of the rows, by what is wrong with them.
    """

    rows: Mapping[Fault, tuple[int, ...]] = field(default_factory=dict)

    def beside(self, rows: Mapping[Fault, Sequence[int]]) -> LeftOut:
        """The same with further rows, in their order."""
        faults = dict.fromkeys([*self.rows, *rows])
        return LeftOut({fault: tuple(sorted({*self.rows.get(fault, ()), *rows.get(fault, ())})) for fault in faults})

    def since(self, before: LeftOut) -> LeftOut:
        """The rows that are not among those of before."""
        new = {fault: tuple(sorted({*rows} - {*before.rows.get(fault, ())})) for fault, rows in self.rows.items()}
        return LeftOut({fault: rows for fault, rows in new.items() if rows})

    @property
    def count(self) -> int:
        """How many rows."""
        return sum(map(len, self.rows.values()))

    @property
    def counts(self) -> dict[str, int]:
        """How many rows of each kind."""
        return {fault.value: len(numbers) for fault, numbers in self.rows.items()}

    def __str__(self) -> str:
        if not self.rows:
            return "no row was left out"
        parts = []
        for fault, numbers in self.rows.items():
            shown = ", ".join(map(str, numbers[:_ROWS_SHOWN]))
            if len(numbers) > _ROWS_SHOWN:
                where = f"{len(numbers)} rows: {shown}, ..."
            else:
                where = f"row{'s' if len(numbers) > 1 else ''} {shown}"
            parts.append(f"{fault.value} ({where})")
        return f"{self.count} row{'s' if self.count > 1 else ''} left out: " + "; ".join(parts)
