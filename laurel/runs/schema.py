"""The tables of `run.sqlite`, and how the file is opened."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from laurel.errors import RunError

DATABASE = "run.sqlite"
SCHEMA_VERSION = 1
# Marks the file as a run of Laurel ("LRL" and a zero), for `file` and for us.
APPLICATION_ID = 0x4C524C00
_BUSY_TIMEOUT_SECONDS = 30.0

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sessions (id INTEGER PRIMARY KEY, started REAL NOT NULL, resumed_from INTEGER, versions TEXT NOT NULL);
CREATE TABLE steps (step INTEGER PRIMARY KEY, recorded REAL NOT NULL);
CREATE TABLE metrics (
    step INTEGER NOT NULL, name TEXT NOT NULL, sum REAL, count REAL, PRIMARY KEY (name, step)) WITHOUT ROWID;
CREATE TABLE timings (
    step INTEGER NOT NULL, name TEXT NOT NULL, seconds REAL, PRIMARY KEY (name, step)) WITHOUT ROWID;
CREATE TABLE trees (
    step INTEGER NOT NULL, collection TEXT NOT NULL, place INTEGER NOT NULL, id TEXT NOT NULL, task_id TEXT NOT NULL,
    rollouts INTEGER NOT NULL, failures INTEGER NOT NULL, advantages BLOB, mask BLOB,
    PRIMARY KEY (step, collection, place));
CREATE TABLE segments (
    step INTEGER NOT NULL, collection TEXT NOT NULL, tree INTEGER NOT NULL, place INTEGER NOT NULL,
    parent INTEGER NOT NULL, source INTEGER NOT NULL, rollout_id TEXT, policy_version INTEGER, reward REAL NOT NULL,
    ending TEXT, stop_reason TEXT, score REAL, score_parts TEXT, failure, sampling TEXT, text NOT NULL,
    tokens BLOB NOT NULL, sampler_log_probs BLOB, support_ids BLOB, support_offsets BLOB,
    PRIMARY KEY (step, collection, tree, place));
CREATE TABLE evaluations (
    step INTEGER NOT NULL, name TEXT NOT NULL, sum REAL, count REAL, PRIMARY KEY (name, step)) WITHOUT ROWID;
CREATE TABLE events (id INTEGER PRIMARY KEY, time REAL NOT NULL, step INTEGER, kind TEXT NOT NULL, text NOT NULL);
"""

# The tables that a run and its resumed twin share byte for byte, their order, and the columns that hold blobs.
REPRODUCIBLE = {
    "metrics": "step, name, sum, count",
    "trees": "step, collection, place, id, task_id, rollouts, failures, advantages, mask",
    "segments": "step, collection, tree, place, parent, source, rollout_id, policy_version, reward, ending,"
    " stop_reason, score, score_parts, failure, sampling, text, tokens, sampler_log_probs, support_ids,"
    " support_offsets",
    "evaluations": "step, name, sum, count",
}
BLOBS = frozenset({"advantages", "mask", "tokens", "sampler_log_probs", "support_ids", "support_offsets"})
# Everything that belongs to a step, and disappears with it when the run goes back to an older checkpoint.
OF_A_STEP = ("steps", "metrics", "timings", "trees", "segments", "evaluations", "events")


def connect(directory: Path, *, write: bool) -> sqlite3.Connection:
    """Open the database of a run, which must exist unless `write`.

    Write-ahead logging: readers never wait for the writer, nor it for them. Synchronous FULL: the log is flushed at
    every commit. NORMAL would already survive SIGKILL, but after a power loss it may forget the last commits, and
    then a checkpoint (which is flushed) could lie after the last recorded step. One flush per step costs nothing
    beside a step. `fullfsync` makes macOS flush its drive too; other systems ignore it.
    """
    file = directory.resolve() / DATABASE
    if write:
        mode = "rwc"
    elif os.access(directory, os.W_OK) and os.access(file, os.W_OK):
        # Not "ro": the last one to close the file has to be able to fold the log into it and remove the log.
        mode = "rw"
    else:
        # An archived run, or somebody else's. Without a log nobody writes it now, and SQLite need not make one to look.
        mode = "ro" if file.with_name(f"{DATABASE}-wal").exists() else "ro&immutable=1"
    try:
        connection = sqlite3.connect(
            f"{file.as_uri()}?mode={mode}", uri=True, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None
        )
        if write:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")
        else:
            connection.execute("PRAGMA query_only = ON")
        return connection
    except sqlite3.Error as error:
        raise database_error(error, directory) from error


def check_identity(connection: sqlite3.Connection, directory: Path) -> None:
    """Refuse what is no run, or a run of another schema.

    Raises:
        RunError: saying which of the two it is.
    """
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise database_error(error, directory) from error
    if application != APPLICATION_ID:
        raise RunError(f"{directory} is no run of Laurel: {DATABASE} was not begun by it or not finished.", hint=NO_RUN)
    if version != SCHEMA_VERSION:
        newer = version > SCHEMA_VERSION
        raise RunError(
            f"{directory} was written by {'a newer' if newer else 'an older'} Laurel (schema {version}; this one reads "
            f"{SCHEMA_VERSION}).",
            hint="upgrade laurel-rl." if newer else "open it with the version that `versions` in its file names.",
        )


NO_RUN = "name the directory that `laurel train` printed, or start a new run."


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables inside the caller's transaction; the identity is written by the same commit."""
    for statement in TABLES.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


@contextmanager
def transaction(connection: sqlite3.Connection, directory: Path, *, write: bool = True) -> Iterator[None]:
    """All or nothing; for readers, one moment in time.

    Raises:
        RunError: for whatever the database reports, in words, after nothing of the transaction was kept.
    """
    try:
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    except sqlite3.Error as error:
        raise database_error(error, directory) from error


_HINTS = {
    "SQLITE_FULL": "the disk is full: free some space, then resume; everything recorded before is intact.",
    "SQLITE_IOERR": "the disk is full, a file-size limit is reached, or the disk is failing: make room, then resume; "
    "everything recorded before is intact.",
    "SQLITE_CANTOPEN": "see that it exists and that you may read it.",
    "SQLITE_NOTADB": NO_RUN,
    "SQLITE_READONLY": "make the directory writable, or choose another one.",
    "SQLITE_BUSY": "another program has locked the file for long; close it, then resume.",
    "SQLITE_CORRUPT": "the file is damaged: restore it from a copy; the checkpoints beside it may be whole.",
}


def database_error(error: sqlite3.Error, directory: Path) -> RunError:
    """The database's complaint with its reason and what to do."""
    name: str = getattr(error, "sqlite_errorname", "")
    hint = next((hint for prefix, hint in _HINTS.items() if name.startswith(prefix)), "see the reason above.")
    return RunError(f"{directory / DATABASE}: {error}{f' ({name})' if name else ''}.", hint=hint)
