"""An answer whose steps somebody labelled: right, wrong, or how likely it leads to a right answer.

    {"prompt": "2+2+3?", "completions": ["2+2=4", "4+3=8"], "labels": [true, false]}

is the answer "2+2=4\\n4+3=8" in the steps "2+2=4\\n" and "4+3=8", with the labels (1, 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any

from laurel.errors import TaskError
from laurel.preferences.columns import Place, build, cell, texts
from laurel.preferences.left_out import BadRow, Fault
from laurel.preferences.preference import Kind, Preference
from laurel.tasks import Columns


@dataclass(frozen=True)
class JudgedSteps(Preference):
    """A task with one answer in steps, each with a label. The answer's own score is the least of the labels.

    Attributes:
        steps: the texts of the steps, in their order; together they are the answer.
        labels: for each the probability, in [0, 1], that it is right; None: nobody looked.

    Raises:
        TaskError: they do not fit together, or no step has a label.
    """

    steps: tuple[str, ...] = ()
    labels: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        known = [label for label in self.labels if label is not None]
        if self.answers != ("".join(self.steps),) or len(self.labels) != len(self.steps) or not known:
            raise TaskError(
                f"Task {self.id} has {len(self.steps)} steps and {len(known)} labels among {len(self.labels)}.",
                hint="give one label per step, at least one that is not None; the steps join to the one answer.",
            )
        if not all(0 <= label <= 1 for label in known):
            raise TaskError(f"Task {self.id}: the labels {self.labels} do not all lie in [0, 1].", hint="rescale them.")

    @property
    def content(self) -> list[Any]:
        """What the digest of a task set is made of: the preference, its steps and their labels."""
        return [*super().content, list(self.steps), list(self.labels)]


def judged_steps(task: Mapping[str, Any], steps: Sequence[str], labels: Sequence[float | None]) -> JudgedSteps:
    """The labelled answer that these steps make.

    Args:
        task: the fields of a `Task`, and its row, without its reference: that is the answer, where every step is right.
    """
    known = [label for label in labels if label is not None]
    answer = "".join(steps)
    fields = {**task, "reference": answer if known and min(known) == 1 and len(known) == len(labels) else None}
    score = min(known, default=0.0)
    return JudgedSteps(
        **fields, answers=(answer,), scores=(score,), kind=Kind.STEPS, steps=tuple(steps), labels=tuple(labels)
    )


@dataclass(frozen=True)
class StepColumns:
    """`steps`, a list of texts, and `labels`, one for each: true, false, a number in [0, 1], or null."""

    prompt: Columns
    steps: str
    labels: str
    separator: str

    def preference(self, row: Mapping[str, Any], place: Place) -> Preference:
        """See `PreferenceColumns`."""
        where = place.where
        said = texts(cell(row, self.steps, where), self.steps, where)
        given = cell(row, self.labels, where)
        if given is None or (isinstance(given, list | tuple) and given and all(label is None for label in given)):
            raise BadRow(Fault.SKIPPED, f"{where} was skipped.", hint="leave it out, or label its steps.")
        labels = labels_in(given, self.labels, len(said), where)
        parts = [f"{text.removesuffix(self.separator)}{self.separator}" for text in said[:-1]] + list(said[-1:])
        if not all(part.strip() for part in parts):
            raise BadRow(Fault.EMPTY, f"{where}: a step is empty.", hint="leave the row out.")
        answer = "".join(parts)
        task = build(self.prompt, row, (answer,), (0.0,), Kind.STEPS, (self.steps, self.labels), place)
        kept = {"id": task.id, "prompt": task.prompt, "data": task.data, "row": task.row}
        return judged_steps(kept, parts, labels)


def labels_in(value: object, column: str, count: int, where: str) -> tuple[float | None, ...]:
    """One label for each of `count` steps.

    Raises:
        BadRow: another number of labels, or one that is none.
    """
    items: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    fits = all(item is None or isinstance(item, bool | int | float) for item in items)
    if not fits or len(items) != count or not count:
        raise BadRow(
            Fault.TYPE,
            f"{where}: the column '{column}' holds {shortened(value)}, not a label for each of {count} steps.",
            hint="write true, false, a number from 0 to 1, or null for a step that nobody looked at.",
        )
    wrong = [item for item in items if item is not None and not 0 <= item <= 1]
    if wrong:
        raise BadRow(
            Fault.RANGE,
            f"{where}: the label {shortened(wrong[0])} of a step does not lie in [0, 1].",
            hint="rescale the labels; of -1, 0, 1 (wrong, neutral, right) say what neutral is to count as.",
        )
    return tuple(None if item is None else float(item) for item in items)
