"""The metrics of a run, told to the tools that people already watch. All are off unless named.

The run directory remains the one source: a tracker gets the means only, and one that fails is left out with an event.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from laurel.errors import MissingExtraError, unknown_key
from laurel.metrics import Metrics

if TYPE_CHECKING:
    from laurel.runs.run import Run

PROJECT = "laurel"


class Tracker(Protocol):
    """Somebody who wants to know the metrics of every step."""

    name: str

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the means of a step."""

    def close(self) -> None:
        """Write out what is left."""


class TensorBoard:
    """Event files in `tensorboard/` inside the run directory."""

    name = "tensorboard"

    def __init__(self, run: Run) -> None:
        """Steps that a resumed run is about to repeat are purged."""
        _require("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        purge = 0 if run.resumed_from is None else run.resumed_from + 1
        self._writer = SummaryWriter(str(run.directory / "tensorboard"), purge_step=purge)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One scalar per metric; flushed, so that a killed run shows all of its steps."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class Trackio:
    """A local trackio project called "laurel"; the run goes by its directory's name and its id."""

    name = "trackio"

    def __init__(self, run: Run) -> None:
        """A resumed run continues the one of the same name."""
        module = _require("trackio", "trackio")
        self._run = module.init(project=PROJECT, name=_name(run), config=run.configuration, resume="allow")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One row per step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


class WeightsAndBiases:
    """A W&B project called "laurel"; its own environment variables (WANDB_MODE, WANDB_PROJECT ...) apply."""

    name = "wandb"

    def __init__(self, run: Run) -> None:
        """A resumed run continues its own curves."""
        module = _require("wandb", "wandb")
        where = str(run.directory)
        self._run = module.init(
            project=PROJECT, name=_name(run), id=_name(run), dir=where, config=run.configuration, resume="allow"
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One row per step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


TRACKERS: dict[str, Callable[[Run], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": WeightsAndBiases,
}


class Trackers:
    """Several trackers as one; a context manager, which closes them.

    One that fails is left out from then on, with a warning among the run's events: somebody else's service must not
    end a run, and the run itself has every number.
    """

    def __init__(self, members: list[Tracker], run: Run) -> None:
        """Tell these; complain to that run."""
        self._members = members
        self._run = run

    def log(self, step: int, metrics: Metrics, timings: Mapping[str, float] | None = None) -> None:
        """Tell the means of a step, and its timings."""
        values = {name: metric.mean for name, metric in metrics.items()} | dict(timings or {})
        self._each(lambda member: member.log(step, values), step)

    def close(self) -> None:
        """Have all of them write out what is left."""
        self._each(lambda member: member.close(), None)
        self._members = []

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _each(self, act: Callable[[Tracker], None], step: int | None) -> None:
        for member in list(self._members):
            try:
                act(member)
            except Exception as error:
                self._members.remove(member)
                text = f"tracker {member.name} failed and is left out from here on: {error!r}"
                self._run.record_event("warning", text, step=step)


def check_trackers(names: Sequence[str]) -> None:
    """See that these can be opened, before there is a run.

    Raises:
        ConfigurationError: for an unknown name.
        MissingExtraError: if its package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise unknown_key("trackers", name, TRACKERS)
        _require(name, name)


def open_trackers(names: Sequence[str], run: Run) -> Trackers:
    """The trackers of these names, for a run that was just created or resumed.

    Raises:
        ConfigurationError, MissingExtraError: see `check_trackers`.
    """
    check_trackers(names)
    return Trackers([TRACKERS[name](run) for name in names], run)


def _name(run: Run) -> str:
    return f"{run.directory.resolve().name}-{run.id}"


def _require(package: str, feature: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingExtraError(f"The tracker {feature}", package=package, extra="track") from error
