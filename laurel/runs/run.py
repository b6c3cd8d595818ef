"""A run: one directory that remembers everything, survives anything, and can be read while it is written.

run.sqlite       configuration, versions, metrics, timings, trees, credit, evaluations, events
checkpoints/     see `laurel.runs.checkpoints`
lock             held by the one writer
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from laurel.errors import ConfigurationError, RunError
from laurel.metrics import Metric
from laurel.runs import checkpoints, records, schema
from laurel.runs.lock import WriterLock
from laurel.runs.phases import phase
from laurel.runs.reading import LOCK, RunReader
from laurel.runs.versions import current_versions
from laurel.tree import Tree

if TYPE_CHECKING:
    import torch

    from laurel.algorithms.algorithm import Credit

_RESUME_HINT = "choose another directory, or go on with the run that is there: --resume, in Python resume=True."


class Run(RunReader):
    """A run directory. `create` and `resume` give the one writer, `open` any number of readers.

    Order within a step: `record_step`, then its `record_evaluation`s, then `save_checkpoint`. What a resume finds
    recorded after the step of its checkpoint is removed and comes again, identically.

    As a context manager it marks the run finished, interrupted or failed by how the block ends, and closes it. A closed
    run can still be read.
    """

    def __init__(self, directory: Path, lock: WriterLock | None) -> None:
        """Use `create`, `open` or `resume`."""
        super().__init__(directory)
        self.resumed_from: int | None = None
        self._lock = lock

    @classmethod
    def create(cls, directory: str | os.PathLike[str], configuration: Mapping[str, Any]) -> Self:
        """Start a run.

        Args:
            directory: new or empty; made if needed, with its parents.
            configuration: the resolved recipe, plain JSON.

        Raises:
            RunError: if there is a run or something else already, or if it cannot be written.
        """
        path = Path(directory)
        text = _configuration_text(configuration)
        run = cls(path, _prepare(path))
        try:
            with run._transaction():
                schema.create_tables(run._connection)
                meta = {"id": uuid.uuid4().hex[:8], "configuration": text, "state": "running", "reason": ""}
                run._connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
                run._begin_session(None)
            checkpoints.flush(path)
            checkpoints.flush(path.resolve().parent)
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Self:
        """Read a run, also while another process writes it.

        Raises:
            RunError: if it is none, or one of another schema.
        """
        path = Path(directory)
        if not (path / schema.DATABASE).is_file():
            raise RunError(f"{path} is no run: it has no {schema.DATABASE}.", hint=schema.NO_RUN)
        run = cls(path, None)
        try:
            schema.check_identity(run._connection, path)
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def resume(
        cls,
        directory: str | os.PathLike[str],
        configuration: Mapping[str, Any] | None = None,
        *,
        may_differ: Sequence[str] = (),
    ) -> Self:
        """Go on with a run: back to its newest whole checkpoint, whose step is `resumed_from` (None: from the start).

        Steps recorded after that checkpoint are removed in one transaction, and an event says so.

        Args:
            directory: of the run.
            configuration: what the caller is about to do, compared with what the run was created with; None: trusted.
            may_differ: keys of the configuration that may have changed (the new value is kept, with an event).

        Raises:
            ConfigurationError: if another key of the configuration changed.
            RunError: if it is no run, if another process writes it, or if it has checkpoints but all are damaged.
        """
        path = Path(directory)
        with cls.open(path) as before:
            stored = before.configuration
        changed = [] if configuration is None else _compare(stored, configuration, may_differ, path)
        run = cls(path, _locked(path))
        try:
            run._rewind()
            if configuration is not None and changed:
                with run._transaction():
                    row = (_configuration_text(configuration),)
                    run._connection.execute("UPDATE meta SET value = ? WHERE key = 'configuration'", row)
                    run._insert_event("warning", f"resumed with another configuration: {'; '.join(changed)}", None)
        except BaseException:
            run.close()
            raise
        return run

    def close(self) -> None:
        """Let go of the files and the lock. A running run that is only closed counts as interrupted."""
        super().close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._writes and error is None:
                self.finish()
            elif self._writes and isinstance(error, KeyboardInterrupt):
                self._set_status("interrupted", "stopped by the user")
            elif self._writes:
                self._set_status("failed", f"{type(error).__name__}: {error}")
        except RunError as second:
            if error is None:
                raise
            error.add_note(f"The status of the run could not be recorded either: {second}")
        finally:
            self.close()

    def finish(self) -> None:
        """Mark the run finished."""
        phase("before_finish", max(self.steps(), default=0))
        self._set_status("finished", "")

    def record_step(
        self,
        step: int,
        trees: Sequence[Tree],
        credits: Sequence[Credit],
        metrics: Mapping[str, Metric],
        timings: Mapping[str, float],
        *,
        discarded: Sequence[Tree] = (),
        events: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Keep everything of a step, in one transaction.

        Args:
            step: not negative, and greater than every step recorded before.
            trees: what was learned from, graded.
            credits: one per tree, aligned with `tree.flat`.
            metrics: reproducible numbers, as sums and counts.
            timings: seconds by name; they are kept apart because they never repeat.
            discarded: trees that were drawn, graded and left out.
            events: (kind, text) of what else happened in this step.

        Raises:
            RunError: if the step was recorded before, the credit does not fit, or the database cannot be written;
                then nothing of the step is kept and everything before it is.
        """
        phase("before_record", step)
        with self._transaction():
            self._insert_step(step)
            write = self._connection.executemany
            write("INSERT INTO metrics VALUES (?, ?, ?, ?)", [(step, n, m.sum, m.count) for n, m in metrics.items()])
            write("INSERT INTO timings VALUES (?, ?, ?)", [(step, n, seconds) for n, seconds in timings.items()])
            records.insert_trees(self._connection, step, records.LEARNED, trees, credits)
            records.insert_trees(self._connection, step, records.DISCARDED, discarded, None)
            for kind, text in events:
                self._insert_event(kind, text, step)
        phase("after_record", step)

    def record_evaluation(self, step: int, name: str, metric: Metric, trees: Sequence[Tree] = ()) -> None:
        """Keep the score of a held-out set after a step, with everything that was drawn for it.

        Raises:
            RunError: if this set was recorded for this step before, or the database cannot be written.
        """
        with self._transaction():
            where = (step, name)
            if self._connection.execute("SELECT 1 FROM evaluations WHERE step = ? AND name = ?", where).fetchone():
                raise RunError(f"Evaluation {name} of step {step} is recorded already.", hint="record it once a step.")
            self._connection.execute("INSERT INTO evaluations VALUES (?, ?, ?, ?)", (*where, metric.sum, metric.count))
            records.insert_trees(self._connection, step, records.EVALUATION + name, trees, None)
        phase("after_evaluation", step)

    def record_event(self, kind: str, text: str, *, step: int | None = None) -> None:
        """Keep something that a reader should know; `kind` is one word."""
        with self._transaction():
            self._insert_event(kind, text, step)

    def save_checkpoint(
        self,
        step: int,
        tensors: Mapping[str, Mapping[str, torch.Tensor]],
        state: Mapping[str, Any],
        *,
        keep: int = checkpoints.KEEP,
    ) -> Path:
        """Write a checkpoint of the state after `step`, atomically; see `laurel.runs.checkpoints.save`.

        Raises:
            RunError: if it cannot be written; the checkpoints before it and all recorded steps stay usable.
        """
        self._require_writer()
        path = checkpoints.save(self._checkpoints, step, tensors, state, keep=keep)
        phase("after_checkpoint", step)
        return path

    @property
    def _writes(self) -> bool:
        return self._lock is not None

    def _require_writer(self) -> None:
        if not self._writes:
            raise RunError(f"{self.directory} is open for reading only.", hint="use Run.resume to write it.")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._require_writer()
        with schema.transaction(self._connection, self.directory):
            yield

    def _set_status(self, state: str, reason: str) -> None:
        with self._transaction():
            rows = [(state, "state"), (records.printable(reason), "reason")]
            self._connection.executemany("UPDATE meta SET value = ? WHERE key = ?", rows)

    def _insert_step(self, step: int) -> None:
        (last,) = self._connection.execute("SELECT max(step) FROM steps").fetchone()
        if step < 0:
            raise RunError(f"Step {step} cannot be recorded.", hint="number the steps from 0 or 1.")
        if last is not None and step <= last:
            raise RunError(
                f"Step {step} cannot be recorded: the last recorded one is {last}.",
                hint="record each step once, in order; a resumed run goes back to its checkpoint.",
            )
        self._connection.execute("INSERT INTO steps VALUES (?, ?)", (step, time.time()))

    def _insert_event(self, kind: str, text: str, step: int | None) -> None:
        row = (time.time(), step, kind, records.printable(text))
        self._connection.execute("INSERT INTO events (time, step, kind, text) VALUES (?, ?, ?, ?)", row)

    def _begin_session(self, resumed_from: int | None) -> None:
        row = (time.time(), resumed_from, json.dumps(current_versions()))
        self._connection.execute("INSERT INTO sessions (started, resumed_from, versions) VALUES (?, ?, ?)", row)

    def _rewind(self) -> None:
        place, notes = checkpoints.newest_whole(self._checkpoints)
        step = None if place is None else checkpoints.step_of(place)
        recorded = max(self.steps(), default=0)
        if step is not None and step > recorded:
            raise RunError(
                f"{self.directory} has a checkpoint of step {step}, but its last recorded step is {recorded}: "
                f"{schema.DATABASE} is older than the checkpoints.",
                hint=f"copy a run with its {schema.DATABASE}-wal; or delete the checkpoints after step {recorded}.",
            )
        kept = -1 if step is None else step
        old, new = self.versions, current_versions()
        changes = [
            f"{n}: {old.get(n)} then, {new.get(n)} now" for n in sorted({*old, *new}) if old.get(n) != new.get(n)
        ]
        with self._transaction():
            (removed,) = self._connection.execute("SELECT count(*) FROM steps WHERE step > ?", (kept,)).fetchone()
            for table in schema.OF_A_STEP:
                self._connection.execute(f"DELETE FROM {table} WHERE step > ?", (kept,))
            phase("in_rewind", kept)
            for note in notes:
                self._insert_event("damaged", note, None)
            where = "the start, as there is no checkpoint yet" if step is None else f"the checkpoint of step {step}"
            self._insert_event("resumed", f"from {where}; {removed} later steps removed", None)
            if changes:
                text = f"resumed under other versions, so the steps to come may differ: {'; '.join(changes)}"
                self._insert_event("warning", text, None)
            self._begin_session(step)
            status = [("running", "state"), ("", "reason")]
            self._connection.executemany("UPDATE meta SET value = ? WHERE key = ?", status)
        checkpoints.tidy(self._checkpoints, newest_whole=step)
        self.resumed_from = step


def is_run(directory: str | os.PathLike[str]) -> bool:
    """Whether there is a run to open or resume; a creation that was killed half-way left none."""
    path = Path(directory)
    if not (path / schema.DATABASE).is_file():
        return False
    connection = schema.connect(path, write=False)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
    except sqlite3.Error as error:
        if error.sqlite_errorname == "SQLITE_NOTADB":
            return False
        raise schema.database_error(error, path) from error
    finally:
        connection.close()
    return bool(application == schema.APPLICATION_ID)


def open_run(
    directory: str | os.PathLike[str],
    configuration: Mapping[str, Any],
    *,
    resume: bool = False,
    may_differ: Sequence[str] = (),
) -> Run:
    """The writer of a run: a new one, or with `resume` the one that is there (a new one where there is none).

    Raises:
        ConfigurationError, RunError: see `Run.create` and `Run.resume`.
    """
    if resume and is_run(directory):
        return Run.resume(directory, configuration, may_differ=may_differ)
    return Run.create(directory, configuration)


def _prepare(directory: Path) -> WriterLock:
    """Make the directory, take its lock, and see that nothing else lives there."""
    # What a creation that was killed leaves behind may be used again.
    remains = {LOCK, schema.DATABASE, f"{schema.DATABASE}-wal", f"{schema.DATABASE}-shm"}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        strangers = sorted({entry.name for entry in directory.iterdir()} - remains)
    except OSError as error:
        raise _unwritable(directory, error) from error
    if strangers and not is_run(directory):
        raise RunError(
            f"{directory} is not empty: it holds {', '.join(strangers[:3])}.", hint="choose a new or empty directory."
        )
    lock = _locked(directory)
    if is_run(directory):
        lock.release()
        raise RunError(f"{directory} holds a run already.", hint=_RESUME_HINT)
    return lock


def _locked(directory: Path) -> WriterLock:
    try:
        return WriterLock(directory / LOCK)
    except OSError as error:
        raise _unwritable(directory, error) from error


def _unwritable(directory: Path, error: OSError) -> RunError:
    reason = error.strerror or str(error)
    return RunError(f"{directory} cannot be written: {reason}.", hint="choose a directory that you may write to.")


def _configuration_text(configuration: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(configuration)
    except (TypeError, ValueError) as error:
        raise RunError(f"The configuration of a run is no JSON: {error}.", hint="pass the resolved recipe.") from error
    if json.loads(text) != configuration:
        raise RunError("The configuration would come back different from JSON.", hint="use lists and string keys.")
    return text


def _compare(
    stored: Mapping[str, Any], wanted: Mapping[str, Any], may_differ: Sequence[str], directory: Path
) -> list[str]:
    """What changed, in words, if all of it may."""
    keys = [key for key in sorted({*stored, *wanted}) if stored.get(key) != wanted.get(key)]
    texts = {key: "; ".join(_changes(key, stored.get(key), wanted.get(key))) for key in keys}
    refused = [texts[key] for key in keys if key not in may_differ]
    if refused:
        raise ConfigurationError(
            f"{directory} cannot be resumed with other settings: {'; '.join(refused)}.",
            hint="resume with the settings it was started with, or start a new run.",
        )
    return list(texts.values())


def _changes(name: str, before: Any, after: Any) -> list[str]:
    """The settings that differ, each with both of its values; of a different kind of thing, the whole of it."""
    nested = isinstance(before, Mapping) and isinstance(after, Mapping) and before.get("type") == after.get("type")
    if not nested:
        return [f"{name} was {before!r}, now {after!r}"]
    keys = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key)]
    return [text for key in keys for text in _changes(f"{name}.{key}", before.get(key), after.get(key))]
