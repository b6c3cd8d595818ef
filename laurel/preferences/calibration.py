"""Calibration: whether what is said to be 80 % likely comes true in 80 % of the cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from laurel.errors import ConfigurationError

BINS = 10
"""Of equal width over [0, 1]. Between two, the confidence is at least a half, so that only the upper half is used."""


@dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy, bin by bin.

    Attributes:
        edges: [bins + 1] of the bins; a bin holds its upper edge, the first one its lower edge too.
        counts: [bins] predictions in each.
        confidence, accuracy: [bins] their means; NaN in an empty bin.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]

    @property
    def error(self) -> float:
        """Expected calibration error: sum over bins of count / total * |accuracy - confidence|; NaN of nothing.

        Source: Guo et al., arXiv 1706.04599, equation 3.
        """
        total = sum(self.counts)
        bins = zip(self.counts, self.confidence, self.accuracy, strict=True)
        return sum(n * abs(right - sure) for n, sure, right in bins if n) / total if total else float("nan")


def calibration(confidence: Sequence[float], correct: Sequence[float], *, bins: int = BINS) -> Calibration:
    """Sort predictions into bins of equal width over [0, 1].

    Args:
        confidence: [P] probability that each prediction was given.
        correct: [P] 1 where it came true, 0 where not, or in between.
        bins: how many.

    Example: confidences (0.8, 0.8, 0.6), of which the first two came true: |1 - 0.8| * 2/3 + |0 - 0.6| / 3 = 1/3.

    Raises:
        ConfigurationError: no bins, another number of outcomes than of predictions, or one that is no probability.
    """
    sure, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if bins < 1 or sure.shape != right.shape or not ((sure >= 0) & (sure <= 1)).all():
        raise ConfigurationError(
            f"Calibration of {len(sure)} confidences and {len(right)} outcomes in {bins} bins makes no sense.",
            hint="give one outcome per confidence, confidences in [0, 1], and at least one bin.",
        )
    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    means = [
        np.divide(np.bincount(places, values, bins), counts, out=np.full(bins, np.nan), where=counts > 0)
        for values in (sure, right)
    ]
    return Calibration(
        tuple(edges.tolist()), tuple(counts.tolist()), tuple(means[0].tolist()), tuple(means[1].tolist())
    )
