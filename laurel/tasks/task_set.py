"""Tasks under one name: an immutable sequence with a fingerprint, splits without leaks, and a resumable order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, overload

from laurel.errors import TaskError
from laurel.tasks.normalise import normalised
from laurel.tasks.task import Task


@dataclass(frozen=True)
class TaskSet(Sequence[Task]):
    """Tasks with unique ids.

    Attributes:
        name: what reports call the set.
        tasks: in the order of their source.

    Raises:
        TaskError: if there is none, or two share an id.
    """

    name: str
    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        if not self.tasks:
            raise TaskError(f"The task set '{self.name}' is empty.", hint="give at least one task.")
        places: dict[str, int] = {}
        for index, task in enumerate(self.tasks):
            if task.id in places:
                raise TaskError(
                    f"The task set '{self.name}' has the id '{task.id}' twice: tasks {places[task.id]} and {index}.",
                    hint="make ids unique, or leave the id column out to number the rows.",
                )
            places[task.id] = index

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> TaskSet: ...
    def __getitem__(self, index: int | slice) -> Task | TaskSet:
        return replace(self, tasks=self.tasks[index]) if isinstance(index, slice) else self.tasks[index]

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    @cached_property
    def by_id(self) -> Mapping[str, Task]:
        """The tasks by their ids."""
        return MappingProxyType({task.id: task for task in self.tasks})

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the content of the tasks in order: equal exactly when that is."""
        digest = hashlib.sha256()
        for task in self.tasks:
            digest.update(json.dumps(task.content, sort_keys=True, default=str).encode() + b"\n")
        return digest.hexdigest()

    @property
    def description(self) -> dict[str, str | int]:
        """What a run records of the set."""
        return {"type": "TaskSet", "name": self.name, "tasks": len(self.tasks), "fingerprint": self.fingerprint}

    @cached_property
    def duplicates(self) -> int:
        """How many tasks repeat the normalised prompt of an earlier one."""
        return len(self.tasks) - len({normalised(task.prompt) for task in self.tasks})

    def split(self, held_out: int | float, *, seed: int = 0) -> tuple[TaskSet, TaskSet]:
        """(training set, held-out set), without a prompt on both sides.

        Tasks with the same normalised prompt stay together. Which side a prompt falls on follows from (seed, prompt)
        and the size alone, not from the order of the rows.

        Args:
            held_out: how many tasks (int), or which fraction of them (float, in (0, 1)); reached from above where
                equal prompts are kept together.
            seed: another one gives another split.

        Raises:
            TaskError: if one side would be empty.
        """
        wanted = held_out if isinstance(held_out, int) else round(held_out * len(self.tasks))
        groups: dict[str, list[int]] = {}
        for index, task in enumerate(self.tasks):
            groups.setdefault(normalised(task.prompt), []).append(index)
        chosen: set[int] = set()
        for prompt in sorted(groups, key=lambda prompt: _rank(seed, prompt)):
            if len(chosen) >= wanted:
                break
            chosen.update(groups[prompt])
        if not 0 < len(chosen) < len(self.tasks):
            raise TaskError(
                f"Holding out {held_out} of the {len(self.tasks)} tasks of '{self.name}' leaves one side empty.",
                hint=f"choose a size from 1 to {len(groups) - 1} (distinct prompts: {len(groups)}).",
            )
        sides = [
            tuple(task for index, task in enumerate(self.tasks) if (index in chosen) is side) for side in (False, True)
        ]
        names = (f"{self.name} (training)", f"{self.name} (held out)")
        training, held = (replace(self, name=name, tasks=side) for name, side in zip(names, sides, strict=True))
        return training, held

    def cursor(self, seed: int) -> Cursor:
        """An endless walk through the tasks for training."""
        return Cursor(self, seed=seed)


class Cursor:
    """Walks through the tasks in epochs; each epoch is a permutation that follows from (seed, epoch).

        cursor = Cursor(tasks, seed=0)
        batch = cursor.next(32)
        state = cursor.state()               # JSON: {"seed": 0, "epoch": 0, "position": 32, "fingerprint": "..."}
        Cursor(tasks, seed=0).load_state(state)

    Where a batch reaches over the end of an epoch, or is larger than the set, a task can stand in it twice.
    """

    def __init__(self, tasks: TaskSet, *, seed: int) -> None:
        self.tasks = tasks
        self.seed = seed
        self.epoch = 0
        self._position = 0
        self._order = _permutation(len(tasks), seed, 0)

    def next(self, count: int) -> list[Task]:
        """The next `count` tasks."""
        batch: list[Task] = []
        while len(batch) < count:
            if self._position == len(self._order):
                self._enter(self.epoch + 1, 0)
            taken = self._order[self._position : self._position + count - len(batch)]
            batch.extend(self.tasks[index] for index in taken)
            self._position += len(taken)
        return batch

    def state(self) -> dict[str, Any]:
        """Everything that `load_state` needs, as JSON."""
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "position": self._position,
            "fingerprint": self.tasks.fingerprint,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state` was taken.

        Raises:
            TaskError: if it was taken with other tasks or another seed.
        """
        for key, own in (("fingerprint", self.tasks.fingerprint), ("seed", self.seed)):
            if state.get(key) != own:
                raise TaskError(
                    f"The cursor's state was taken with {key} {state.get(key)}, but '{self.tasks.name}' has {own}.",
                    hint="resume with the same tasks and seed, or start a new run.",
                )
        epoch, position = int(state["epoch"]), int(state["position"])
        if epoch < 0 or not 0 <= position <= len(self.tasks):
            raise TaskError(
                f"The cursor's state has epoch {epoch} and position {position} of {len(self.tasks)} tasks.",
                hint="the checkpoint is damaged: resume from an older one.",
            )
        self._enter(epoch, position)

    def _enter(self, epoch: int, position: int) -> None:
        self.epoch, self._position = epoch, position
        self._order = _permutation(len(self.tasks), self.seed, epoch)


def _rank(seed: int, prompt: str) -> bytes:
    return hashlib.sha256(f"{seed}/{prompt}".encode("utf-8", "surrogatepass")).digest()


def _permutation(size: int, seed: int, epoch: int) -> list[int]:
    """Sorting by a hash gives the same order under every version of Python and numpy."""
    return sorted(range(size), key=lambda index: hashlib.sha256(f"{seed}/{epoch}/{index}".encode()).digest())
