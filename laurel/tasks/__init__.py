"""Tasks: what is asked, what is known about a right answer, and the order in which a run visits them."""

from collections.abc import Callable

from laurel.tasks.curriculum import Curriculum, CurriculumCursor, walk
from laurel.tasks.extraction import Extractor, after_marker, extractor, last_boxed
from laurel.tasks.formalisations import formalisations
from laurel.tasks.normalise import check_leak, leaks, normalised
from laurel.tasks.rows import Columns
from laurel.tasks.sources import from_iterable, jsonl, parquet, reasoning_gym
from laurel.tasks.task import Message, Prompt, Task
from laurel.tasks.task_set import Cursor, TaskSet
from laurel.tasks.template import Template
from laurel.tasks.theorems import theorems

SOURCES: dict[str, Callable[..., TaskSet]] = {
    "formalisations": formalisations,
    "from_iterable": from_iterable,
    "jsonl": jsonl,
    "parquet": parquet,
    "reasoning_gym": reasoning_gym,
    "theorems": theorems,
}
"""The sources that a recipe names."""

__all__ = [
    "SOURCES",
    "Columns",
    "Curriculum",
    "CurriculumCursor",
    "Cursor",
    "Extractor",
    "Message",
    "Prompt",
    "Task",
    "TaskSet",
    "Template",
    "after_marker",
    "check_leak",
    "extractor",
    "formalisations",
    "from_iterable",
    "jsonl",
    "last_boxed",
    "leaks",
    "normalised",
    "parquet",
    "reasoning_gym",
    "theorems",
    "walk",
]
