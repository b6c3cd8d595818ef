"""Metrics are sums and counts, so that averages over ragged parts are never averages of averages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

GREATEST = "greatest_"
"""A name whose last part (after the last "/") starts so is a maximum: its count is 1, and the greater of two stays."""


@dataclass(frozen=True)
class Metric:
    """A mean that can still be merged: `mean = sum / count`. A count of 0 has no mean (NaN), which is not zero."""

    sum: float
    count: float

    @property
    def mean(self) -> float:
        """sum / count; NaN where nothing was counted."""
        return self.sum / self.count if self.count else float("nan")

    def __add__(self, other: Metric) -> Metric:
        return Metric(self.sum + other.sum, self.count + other.count)

    @classmethod
    def of(cls, values: Iterable[float]) -> Metric:
        """The mean of some values."""
        array = np.asarray(list(values), dtype=np.float64)
        return cls(float(array.sum()), float(len(array)))


Metrics = Mapping[str, Metric]


def merge(parts: Iterable[Metrics]) -> dict[str, Metric]:
    """Put metrics of the same name together: means add up, of maxima the greater stays."""
    total: dict[str, Metric] = {}
    for part in parts:
        for name, metric in part.items():
            if name not in total:
                total[name] = metric
            elif name.rpartition("/")[2].startswith(GREATEST):
                total[name] = max(total[name], metric, key=lambda value: value.mean)
            else:
                total[name] = total[name] + metric
    return total
