"""What can be read of a run, by its writer and by anybody else, also while it is being written."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laurel.metrics import Metric
from laurel.runs import checkpoints, records, schema
from laurel.runs.digest import digest
from laurel.runs.lock import is_held
from laurel.runs.records import Evaluation, Event
from laurel.tree import Tree

if TYPE_CHECKING:
    from laurel.algorithms.algorithm import Credit
    from laurel.runs.summary import Summary

LOCK = "lock"


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        state: "running" (a live process writes it), "finished", "failed" or "interrupted" (stopped or killed).
        reason: why it failed or was interrupted, "" otherwise.
    """

    state: str
    reason: str = ""


class RunReader:
    """The readable half of a run; `laurel.runs.Run` is the whole.

    Every method sees one moment of the run: a step is there with everything that belongs to it, or not at all.
    """

    def __init__(self, directory: Path) -> None:
        """Read the run in a directory; the file is opened at the first question."""
        self.directory = directory
        self._opened: sqlite3.Connection | None = None

    def close(self) -> None:
        """Let go of the file; a later question opens it again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = schema.connect(self.directory, write=self._writes)
        return self._opened

    def load_checkpoint(self) -> checkpoints.Checkpoint | None:
        """The newest whole checkpoint, its hashes verified; None if there is none yet.

        Raises:
            RunError: if there are checkpoints but all are damaged.
        """
        place, notes = checkpoints.newest_whole(self._checkpoints)
        return None if place is None else checkpoints.load(place, notes)

    @property
    def checkpoint_steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first."""
        return checkpoints.steps(self._checkpoints)

    @property
    def configuration(self) -> dict[str, Any]:
        """The configuration that the run was created with."""
        configuration: dict[str, Any] = json.loads(self._meta("configuration"))
        return configuration

    @property
    def id(self) -> str:
        """A random name that stays, so that two runs in directories of one name are told apart."""
        return self._meta("id")

    @property
    def versions(self) -> dict[str, str]:
        """The versions that wrote it last."""
        (text,) = self._rows("SELECT versions FROM sessions ORDER BY id DESC LIMIT 1")[0]
        versions: dict[str, str] = json.loads(text)
        return versions

    @property
    def status(self) -> Status:
        """Where it stands; a run that says it is running without a living writer was interrupted."""
        state, reason = self._meta("state"), self._meta("reason")
        if state == "running" and not self._writes and not is_held(self.directory / LOCK):
            return Status("interrupted", "its process ended without a word")
        return Status(state, reason)

    def steps(self) -> list[int]:
        """The recorded steps in order."""
        return [step for (step,) in self._rows("SELECT step FROM steps ORDER BY step")]

    def metric_names(self) -> list[str]:
        """The names of all metrics."""
        return [name for (name,) in self._rows("SELECT DISTINCT name FROM metrics ORDER BY name")]

    def metric(self, name: str) -> list[tuple[int, Metric]]:
        """The course of a metric: (step, Metric), empty if there is none of this name."""
        rows = self._rows("SELECT step, sum, count FROM metrics WHERE name = ? ORDER BY step", name)
        return [(step, _metric(total, count)) for step, total, count in rows]

    def timings(self, step: int) -> dict[str, float]:
        """Seconds by name."""
        return dict(self._rows("SELECT name, seconds FROM timings WHERE step = ? ORDER BY name", step))

    def trees(self, step: int) -> list[Tree]:
        """The trees that a step learned from, as they were recorded."""
        return self._trees(step, records.LEARNED)

    def discarded(self, step: int) -> list[Tree]:
        """The trees that were drawn in a step but not learned from."""
        return self._trees(step, records.DISCARDED)

    def evaluation_trees(self, name: str, step: int) -> list[Tree]:
        """Everything that was drawn for an evaluation: the held-out answers."""
        return self._trees(step, records.EVALUATION + name)

    def credits(self, step: int) -> list[Credit]:
        """The credit of `trees(step)`, in their order."""
        with schema.transaction(self._connection, self.directory, write=False):
            return records.read_credits(self._connection, step)

    def failures(self) -> tuple[int, int]:
        """How many rollouts failed of those drawn to learn from, also in discarded groups, and how many were drawn."""
        return self._failures("collection IN (?, ?)", records.LEARNED, records.DISCARDED)

    def evaluation_failures(self) -> tuple[int, int]:
        """How many answers failed of those drawn for evaluations, and how many were drawn."""
        return self._failures("substr(collection, 1, length(?)) = ?", records.EVALUATION, records.EVALUATION)

    def evaluations(self) -> list[Evaluation]:
        """All evaluations, by name and step."""
        rows = self._rows("SELECT name, step, sum, count FROM evaluations ORDER BY name, step")
        return [Evaluation(name, step, _metric(total, count)) for name, step, total, count in rows]

    def events(self, kind: str | None = None) -> list[Event]:
        """What happened, oldest first."""
        rows = self._rows(
            "SELECT kind, text, step, time FROM events WHERE kind = ? OR ? IS NULL ORDER BY id", kind, kind
        )
        return [Event(*row) for row in rows]

    def digest(self, step: int | None = None) -> str:
        """SHA-256 over everything of the run, or of one step, that repeats: metrics, trees, credit, evaluations.

        A run that was killed and resumed has the digest of one that was not; timings, events and versions are no part.
        """
        with schema.transaction(self._connection, self.directory, write=False):
            return digest(self._connection, step)

    def summary(self) -> Summary:
        """The run in a few lines, for `print` and for rich."""
        from laurel.runs.summary import summarise

        return summarise(self)

    def _failures(self, where: str, *values: str) -> tuple[int, int]:
        query = f"SELECT ifnull(sum(failures), 0), ifnull(sum(rollouts), 0) FROM trees WHERE {where}"
        failed, drawn = self._rows(query, *values)[0]
        return failed, drawn

    def _trees(self, step: int, collection: str) -> list[Tree]:
        with schema.transaction(self._connection, self.directory, write=False):
            return records.read_trees(self._connection, step, collection)

    @property
    def _writes(self) -> bool:
        return False

    @property
    def _checkpoints(self) -> Path:
        return self.directory / checkpoints.FOLDER

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise schema.database_error(error, self.directory) from error

    def _meta(self, key: str) -> str:
        text: str = self._rows("SELECT value FROM meta WHERE key = ?", key)[0][0]
        return text


def _metric(total: float | None, count: float | None) -> Metric:
    # SQLite keeps NaN as NULL.
    return Metric(float("nan") if total is None else total, float("nan") if count is None else count)
