"""One number for a whole rollout, spread over its parts by how important each was, read in hindsight."""

from __future__ import annotations

import numpy as np

from laurel.errors import ConfigurationError
from laurel.tree import FloatArray


def redistributed(total: float, importance: FloatArray) -> FloatArray:
    """share(k) = total * importance(k) / sum of importance, [K], which sum to the total; equal shares where all are 0.

    Example: 6 over importances (1, 2, 0): 2, 4, 0. Over (0, 0): 3, 3.

    Read as rewards of steps (`laurel.credit.ProcessScores(reading="rewards")`) they leave every return as it was, and
    give later steps less of what earlier ones earned. They are no exact credit: what is important for the end is known
    at the end alone, so an earlier step's share also tells of later ones, and they are not credited with that.

    Source: Verma and Metcalf 2024, arXiv 2404.08828 (Hindsight PRIOR), where the shares are targets of a reward model
    of single states; here the model says one number for an answer, and the shares are paid.

    Raises:
        ConfigurationError: an importance is negative or not finite, or there is none.
    """
    weights = np.asarray(importance, np.float64)
    if weights.ndim != 1 or not len(weights) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ConfigurationError(f"{weights} are no importances.", hint="give one finite number from 0 on per part.")
    largest = weights.max()
    if largest == 0:
        return np.full(len(weights), total / len(weights))
    proportions = weights / largest  # of one size, so that neither the smallest nor the largest numbers lose digits
    return np.asarray(total * proportions / proportions.sum())
