"""Labels on disk: one line of JSON for every question that was answered, written before the next one is asked.

    {"task": "t1", "prompt": "2+2?", "answers": ["4", "5"], "ranks": [1, 2]}        the first is better
    {"task": "t2", "prompt": "3+3?", "answers": ["six", "6"], "ranks": [1, 1]}      equal
    {"task": "t3", "prompt": "9+9?", "answers": ["1", "2"], "ranks": null}          skipped

`laurel.preferences.rankings(path, ranks="ranks")` reads them back as preferences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from laurel.errors import TaskError
from laurel.preferences.teachers import Query
from laurel.tasks.growing_file import GrowingFile
from laurel.tasks.rows import messages_in

RANKS: dict[float | None, list[int] | None] = {1.0: [1, 2], 0.0: [2, 1], 0.5: [1, 1], None: None}
"""What a teacher says, and how it is written down."""


def row_of(query: Query, verdict: float | None) -> dict[str, Any]:
    """The line that keeps an answer."""
    prompt = query.task.prompt
    asked = prompt if isinstance(prompt, str) else [dict(message) for message in prompt]
    return {"task": query.task.id, "prompt": asked, "answers": list(query.answers), "ranks": RANKS[verdict]}


def verdict_of(row: Mapping[str, Any]) -> float | None:
    """What was said: 1.0 the first, 0.0 the second, 0.5 equal, None skipped."""
    return next(verdict for verdict, ranks in RANKS.items() if ranks == row["ranks"])


class Labels(GrowingFile):
    """A file of labels that grows by whole lines, each flushed to the disk before `append` returns.

    with Labels("labels.jsonl") as labels:
        labels.append(query, 1.0)
    """

    noun: ClassVar[str] = "labels"

    def append(self, query: Query, verdict: float | None) -> None:
        """Keep one answer; it is on the disk when this returns.

        Raises:
            TaskError: it could not be written.
        """
        self.append_row(row_of(query, verdict))

    def check(self, row: Mapping[str, Any], where: str) -> None:
        """See `GrowingFile`: a label has a prompt, two answers and ranks."""
        if not _is_question(row, where) or row.get("ranks", 0) not in RANKS.values():
            raise TaskError(
                f"{where} is no label.", hint="a label has prompt, two answers and ranks; choose another file."
            )


def _is_question(row: Mapping[str, Any], where: str) -> bool:
    """Whether a row holds a prompt and two answers.

    Raises:
        TaskError: the prompt is a list, and not of messages.
    """
    asked, answers = row.get("prompt"), row.get("answers")
    if isinstance(asked, list):
        messages_in(asked, where)
    two = isinstance(answers, list) and len(answers) == 2 and all(isinstance(answer, str) for answer in answers)
    return two and isinstance(asked, str | list)
