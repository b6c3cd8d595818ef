"""How many tokens one forward pass of a learner holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

TOKENS_PER_MICROBATCH = {"cpu": 2048, "cuda": 16384}
"""Where a device is fast: on two CPU cores the time per token is the same from 1024 upwards, the memory is not."""

UNCUT_TOKENS = 2
"""By default a tree of up to this many micro-batches stays whole: its pieces would compute its prefix again."""


@dataclass(frozen=True)
class PassTokens:
    """Bounds on the distinct tokens of one pass.

    Attributes:
        together: several trees are put into one pass up to this many.
        uncut: a single tree is cut only above this many.
    """

    together: int
    uncut: int

    @classmethod
    def of(cls, wanted: int | None, device: torch.device) -> Self:
        """What was wanted, for both; None: what suits the device."""
        if wanted is not None:
            return cls(wanted, wanted)
        together = TOKENS_PER_MICROBATCH.get(device.type, TOKENS_PER_MICROBATCH["cuda"])
        return cls(together, UNCUT_TOKENS * together)
