"""The store of a run: everything it did, in one directory, written so that nothing can be lost by a crash."""

from laurel.runs.checkpoints import Checkpoint
from laurel.runs.phases import KILL_VARIABLE, PHASES, phase
from laurel.runs.reading import RunReader, Status
from laurel.runs.records import Evaluation, Event
from laurel.runs.run import Run, is_run, open_run
from laurel.runs.summary import Summary
from laurel.runs.trackers import TRACKERS, Tracker, Trackers, check_trackers, open_trackers
from laurel.runs.versions import current_versions

__all__ = [
    "KILL_VARIABLE",
    "PHASES",
    "TRACKERS",
    "Checkpoint",
    "Evaluation",
    "Event",
    "Run",
    "RunReader",
    "Status",
    "Summary",
    "Tracker",
    "Trackers",
    "check_trackers",
    "current_versions",
    "is_run",
    "open_run",
    "open_trackers",
    "phase",
]
