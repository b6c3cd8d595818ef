"""The order in which a run visits its tasks: endless, seeded, and resumable from a few numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from laurel.errors import TaskError
from laurel.tasks.task import Task
from laurel.tasks.task_set import TaskSet


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


def _permutation(size: int, seed: int, epoch: int) -> list[int]:
    """Sorting by a hash gives the same order under every version of Python and numpy."""
    return sorted(range(size), key=lambda index: hashlib.sha256(f"{seed}/{epoch}/{index}".encode()).digest())
