"""What several seeds say together: means that no outlier decides, and how sure one may be of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Numbers = Sequence[float] | npt.NDArray[np.float64]
RESAMPLES = 2000


def interquartile_mean(values: Numbers) -> float:
    """The mean of the middle half: the lowest and the highest quarter left out, a value on the edge in part.

    Of 1, 2, 3, 4 it is 2.5; of five values 1.25 are left out at each end. Agarwal et al. 2021, arXiv 2108.13264.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    if len(ordered) == 0:
        raise ValueError("No values, no mean.")
    cut = len(ordered) / 4
    places = np.arange(len(ordered))
    weights = np.clip(places + 1 - cut, 0, 1) * np.clip(len(ordered) - cut - places, 0, 1)
    return float(weights @ ordered / weights.sum())


def bootstrap_interval(
    values: Numbers, statistic: Callable[[Numbers], float] = interquartile_mean, *, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap: the middle `level` of the statistic over resamples of the values, drawn with this seed."""
    return stratified_interval([values], statistic, level=level, seed=seed)


def stratified_interval(
    strata: Sequence[Numbers],
    statistic: Callable[[Numbers], float] = interquartile_mean,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap of a statistic over all values together, resampled within each stratum only.

    With tasks as strata and a score per seed in each it is the interval of Agarwal et al. 2021, arXiv 2108.13264: how
    the score would vary with other seeds, the tasks being these. One stratum gives `bootstrap_interval`.
    """
    given = [np.asarray(values, np.float64) for values in strata]
    draw = np.random.default_rng(seed)
    seen = [
        statistic(np.concatenate([values[draw.integers(len(values), size=len(values))] for values in given]))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(seen, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def quartiles(values: npt.NDArray[np.float64]) -> tuple[list[float], list[float], list[float]]:
    """Lower quartile, median and upper quartile over the first axis, one of each for every column."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    return low.tolist(), middle.tolist(), high.tolist()
