"""Where tasks come from: JSON lines, Parquet, any iterable, reasoning-gym."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from laurel.errors import MissingExtraError, TaskError
from laurel.tasks.extraction import Extractor
from laurel.tasks.files import json_lines, parquet_rows
from laurel.tasks.rows import Columns, task_set
from laurel.tasks.task import Task
from laurel.tasks.task_set import TaskSet
from laurel.tasks.template import nearest


def jsonl(
    path: str | Path,
    *,
    prompt: str = "question",
    reference: str | None = "answer",
    id: str | None = None,
    extract: str | Extractor | None = None,
    system: str | None = None,
    conversation: bool = False,
    limit: int | None = None,
) -> TaskSet:
    """Tasks from a file with one JSON object per line; blank lines are skipped.

        jsonl("gsm8k/train.jsonl", prompt="{question}\\nAnswer: ", extract="####")

    Args:
        path: the file; ids are its name without suffix and the line's number, from 1, unless `id` names a column.
        prompt, reference, id, extract, system, conversation: see `Columns`.
        limit: keep the first so many rows.

    Raises:
        TaskError: naming the line and the column, for anything that cannot be used.
    """
    path = Path(path)
    columns = Columns(prompt, reference, id, extract, system, conversation)
    return task_set(json_lines(path), path.stem, columns, limit, path)


def parquet(
    path: str | Path,
    *,
    prompt: str = "question",
    reference: str | None = "answer",
    id: str | None = None,
    extract: str | Extractor | None = None,
    system: str | None = None,
    conversation: bool = False,
    limit: int | None = None,
) -> TaskSet:
    """Tasks from a Parquet file (extra `data`); rows count from 1. Arguments and errors as for `jsonl`.

    Raises:
        MissingExtraError: without pyarrow.
    """
    path = Path(path)
    columns = Columns(prompt, reference, id, extract, system, conversation)
    return task_set(parquet_rows(path), path.stem, columns, limit, path)


def from_iterable(
    rows: Iterable[Mapping[str, Any] | Task],
    *,
    label: str = "tasks",
    prompt: str = "question",
    reference: str | None = "answer",
    id: str | None = None,
    extract: str | Extractor | None = None,
    system: str | None = None,
    conversation: bool = False,
    limit: int | None = None,
) -> TaskSet:
    """Tasks from rows in memory (read once, at most `limit` of them); ready-made tasks pass through unchanged.

    Args:
        label: the name of the set, which ids start with. Other arguments as for `jsonl`.
    """
    columns = Columns(prompt, reference, id, extract, system, conversation)
    numbered = ((number, f"{label}, row {number}", row) for number, row in enumerate(rows, start=1))
    return task_set(numbered, label, columns, limit)


def reasoning_gym(
    dataset: str,
    *,
    size: int,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    template: str = "{question}",
    system: str | None = None,
    conversation: bool = False,
) -> TaskSet:
    """Generated tasks of one reasoning-gym data set (extra `envs`), each with its gold answer.

    Grade them with `laurel.rewards.reasoning_gym_answer()`, since many have more than one right answer.

    Args:
        dataset: its name there, such as "leg_counting".
        size, seed: how many, and which. Most data sets make item i from seed + i, so that seeds closer than `size`
            share tasks, and small ones repeat themselves: split one set (`TaskSet.split`) to hold some out.
        settings: further settings of the data set's own configuration.
        template: the prompt around the field {question}.
        system, conversation: see `Columns`.

    Raises:
        MissingExtraError: without reasoning-gym.
        TaskError: for an unknown data set (naming the nearest), or settings that it refuses.
    """
    try:
        import reasoning_gym as gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise MissingExtraError("laurel.tasks.reasoning_gym", package="reasoning-gym", extra="envs") from error
    if dataset not in DATASETS:
        raise TaskError(f"reasoning-gym has no data set '{dataset}'.", hint=nearest(dataset, DATASETS))
    try:
        entries = list(gym.create_dataset(dataset, size=size, seed=seed, **(settings or {})))
    except (TypeError, ValueError, AssertionError) as error:
        raise TaskError(
            f"reasoning-gym refuses the settings of '{dataset}': {error}.", hint="see that data set's configuration."
        ) from error
    label = f"{dataset}-{seed}"
    columns = Columns(template, None, None, None, system, conversation)
    tasks: list[Task] = []
    for number, entry in enumerate(entries):
        row = {"question": entry["question"], "metadata": _metadata(entry["metadata"])}
        task = columns.task(row, set_name=label, number=number, where=f"{label}, item {number}")
        answer = entry["answer"]
        tasks.append(replace(task, reference=None if answer is None else str(answer), data=row))
    return TaskSet(label, tuple(tasks))


def _metadata(value: object) -> Any:
    """reasoning-gym's metadata as JSON: what JSON cannot hold becomes text, as its own scorers see it after a file."""
    if isinstance(value, Mapping):
        return {str(key): _metadata(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_metadata(item) for item in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
