"""One scale for all advantages of a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laurel.credit.credit import Credit
from laurel.credit.groups import is_constant


def standardise_step(credits: Sequence[Credit], *, epsilon: float = 1e-8) -> list[Credit]:
    """Advantages minus their mean, over their deviation (ddof 0), over all masked tokens of a step; constant: zeros."""
    together = np.concatenate([credit.advantages[credit.mask] for credit in credits]) if credits else np.zeros(0)
    constant = is_constant(together)
    centre, scale = (0.0, 1.0) if constant else (float(together.mean()), float(together.std()) + epsilon)
    return [
        Credit(
            np.where(credit.mask & (not constant), (credit.advantages - centre) / scale, 0.0),
            credit.mask,
            credit.value_targets,
            credit.values,
        )
        for credit in credits
    ]
