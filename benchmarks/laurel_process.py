"""What both of Laurel's step processes keep of their steps. Import it after `protocol.set_threads`: it loads torch."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version

from protocol import Meter

import laurel
from laurel.metrics import Metric
from laurel.progress import Silent


class Record(Silent):
    """A lap, the metrics and the timings of every step."""

    def __init__(self) -> None:
        self.meter = Meter()
        self.metrics: list[Mapping[str, Metric]] = []
        self.timings: list[Mapping[str, float]] = []

    def of(self, title: str, steps: int) -> AbstractContextManager[object]:
        """Called once the model and the tasks are loaded."""
        self.meter.start()
        return super().of(title, steps)

    def step(self, step: int, metrics: Mapping[str, Metric], timings: Mapping[str, float]) -> None:
        """Called when the optimiser has stepped and the step is recorded."""
        self.meter.step_done()
        self.metrics.append(metrics)
        self.timings.append(timings)


def versions() -> dict[str, str]:
    """Of Laurel and what it computes with."""
    return {"laurel": laurel.__version__, **{name: version(name) for name in ("transformers", "torch")}}
