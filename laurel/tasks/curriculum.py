"""A curriculum: which tasks come next follows from how well the policy does on them, by one of their columns."""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from laurel.errors import ConfigurationError, TaskError
from laurel.metrics import Metric
from laurel.tasks.task import Task
from laurel.tasks.task_set import Cursor, TaskSet


@dataclass(frozen=True)
class Curriculum:
    """Draw tasks by how often they are solved at the moment.

    Tasks are divided by the column `by` of their data. Of each of its values the last `window` answers are remembered;
    p is the share of them that scored `full` or more.

        "levels"    the values, numbers, open from the lowest up. The next one opens when the newest has `window`
                    answers behind it and p is at least `bar`. A draw falls on the newest level, or with probability
                    `rehearsal` on one of those before it, each as likely.
        "frontier"  all values are open, and a draw falls on each in proportion to p (1 - p) + `floor`, where p counts
                    one more success and one more failure than there were: what is solved half of the time teaches
                    most, as a group whose answers all score alike carries no signal. A floor above 0 finds out about
                    the others.

    Within a value, tasks come in epochs as they do without a curriculum.

    Attributes:
        by: the column, such as "difficulty".
        kind: "levels" or "frontier".
        bar, rehearsal: of "levels".
        floor: of "frontier".
        window: how many answers are remembered.
        full: the reward from which on an answer counts as solved.

    Sources: Bengio et al. 2009, "Curriculum learning"; p (1 - p) is the variance of a 0/1 reward, after Florensa et al.
    2018, arXiv 1705.06366 (goals of intermediate difficulty) and the filter of DAPO, arXiv 2503.14476.

    Raises:
        ConfigurationError: naming the setting that is out of range.
    """

    by: str
    kind: Literal["levels", "frontier"] = "levels"
    bar: float = 0.7
    rehearsal: float = 0.25
    floor: float = 0.02
    window: int = 128
    full: float = 1.0

    def __post_init__(self) -> None:
        ranges = {"bar": 0 < self.bar <= 1, "rehearsal": 0 <= self.rehearsal < 1, "floor": 0 < self.floor <= 1}
        for name, fits in {**ranges, "window": self.window >= 1}.items():
            if not fits:
                raise ConfigurationError(
                    f"curriculum: {name}={getattr(self, name)} is out of range.",
                    hint="bar in (0, 1], rehearsal in [0, 1), floor in (0, 1], window from 1.",
                )
        unread = {"levels": ("floor",), "frontier": ("bar", "rehearsal")}[self.kind]
        for name in unread:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise ConfigurationError(
                    f"curriculum: '{name}' would not be read by '{self.kind}'.", hint=f"remove '{name}'."
                )


class CurriculumCursor(Cursor):
    """Walks through tasks as a curriculum wants it; what it has seen of their scores is part of its state.

    cursor = CurriculumCursor(tasks, Curriculum("difficulty"), seed=0)
    tasks = cursor.next(32)
    cursor.learn([(task.id, score), ...])         # of every answer; the next draws depend on it

    Which value a draw falls on follows from (seed, number of the draw) and the scores so far.

    Raises:
        TaskError: naming the task, if one has no such column or "levels" are not numbers.
    """

    def __init__(self, tasks: TaskSet, curriculum: Curriculum, *, seed: int) -> None:
        super().__init__(tasks, seed=seed)
        self.curriculum = curriculum
        self.values = _values(tasks, curriculum)
        self._place = {task.id: self.values.index(task.data[curriculum.by]) for task in tasks}
        self._parts = [
            Cursor(TaskSet(f"{curriculum.by} {value}", _having(tasks, curriculum.by, value)), seed=seed)
            for value in self.values
        ]
        self._recent: list[list[int]] = [[] for _ in self.values]
        self._draws = 0
        self.newest = 0

    def next(self, count: int) -> list[Task]:
        """The next `count` tasks."""
        batch = []
        for _ in range(count):
            batch += self._parts[self._drawn_value()].next(1)
        return batch

    def learn(self, scores: Sequence[tuple[str, float]]) -> dict[str, Metric]:
        """Take in (task id, reward) of answers, and return what there is to say about it."""
        solved: dict[int, Metric] = {}
        for identity, reward in scores:
            place, full = self._place[identity], int(reward >= self.curriculum.full)
            self._recent[place] = [*self._recent[place], full][-self.curriculum.window :]
            before = solved.get(place, Metric(0, 0))
            solved[place] = Metric(before.sum + full, before.count + 1)
        if self.curriculum.kind == "levels":
            self._open()
        metrics = {f"solved/{self.curriculum.by}_{self.values[place]}": each for place, each in sorted(solved.items())}
        if self.curriculum.kind == "levels":
            metrics["level"] = Metric(float(self.values[self.newest]), 1)
        return metrics

    @property
    def weights(self) -> list[float]:
        """How likely the next draw falls on each value, in their order."""
        settings = self.curriculum
        if settings.kind == "frontier":
            rates = [(sum(recent) + 1) / (len(recent) + 2) for recent in self._recent]
            weights = [rate * (1 - rate) + settings.floor for rate in rates]
            return [weight / sum(weights) for weight in weights]
        earlier = settings.rehearsal / self.newest if self.newest else 0.0
        last = 1 - earlier * self.newest
        return [earlier] * self.newest + [last] + [0.0] * (len(self.values) - self.newest - 1)

    def state(self) -> dict[str, Any]:
        """Everything that `load_state` needs, as JSON."""
        parts = [[part.epoch, part.state()["position"]] for part in self._parts]
        own = {"draws": self._draws, "newest": self.newest, "recent": self._recent, "parts": parts}
        return {**super().state(), "curriculum": own}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state` was taken.

        Raises:
            TaskError: if it was taken with other tasks, another seed, or without this curriculum.
        """
        super().load_state(state)
        own = state.get("curriculum")
        if own is None or len(own["parts"]) != len(self._parts):
            raise TaskError(
                f"The cursor's state was taken without a curriculum by '{self.curriculum.by}'.",
                hint="resume with the same curriculum, or start a new run.",
            )
        for part, (epoch, position) in zip(self._parts, own["parts"], strict=True):
            part.load_state({**part.state(), "epoch": epoch, "position": position})
        self._draws, self.newest = int(own["draws"]), int(own["newest"])
        self._recent = [[int(each) for each in recent] for recent in own["recent"]]

    def _drawn_value(self) -> int:
        drawn = hashlib.sha256(f"curriculum/{self.seed}/{self._draws}".encode()).digest()
        left = int.from_bytes(drawn[:8], "big") / 2**64
        self._draws += 1
        weights = self.weights
        for place, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return place
        return max(place for place, weight in enumerate(weights) if weight)  # the sum of weights was rounded down

    def _open(self) -> None:
        recent = self._recent[self.newest]
        enough = len(recent) == self.curriculum.window and sum(recent) >= self.curriculum.bar * len(recent)
        if enough and self.newest + 1 < len(self.values):
            self.newest += 1


def walk(tasks: TaskSet, curriculum: Curriculum | None, *, seed: int) -> Cursor:
    """The walk through tasks that a run takes: as a curriculum wants it, or each as often as every other."""
    return tasks.cursor(seed) if curriculum is None else CurriculumCursor(tasks, curriculum, seed=seed)


def _values(tasks: TaskSet, curriculum: Curriculum) -> list[Any]:
    """The values of the column, in order."""
    values: set[Any] = set()
    for task in tasks:
        value = task.data.get(curriculum.by)
        number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
        if not (number or (isinstance(value, str) and curriculum.kind == "frontier")):
            wanted = "a number" if curriculum.kind == "levels" else "a number or a text"
            raise TaskError(
                f"curriculum: task {task.id} of '{tasks.name}' has {value!r} as '{curriculum.by}', not {wanted}.",
                hint=f"columns: {', '.join(sorted(map(str, task.data))) or 'none'}.",
            )
        values.add(value)
    return sorted(values, key=lambda value: (isinstance(value, str), value))


def _having(tasks: TaskSet, column: str, value: Any) -> tuple[Task, ...]:
    return tuple(task for task in tasks if task.data[column] == value)
