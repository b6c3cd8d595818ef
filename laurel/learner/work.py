"""What the micro-batches of one update share while the learner works on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from laurel.algorithms import Credit
from laurel.learner.batching import Microbatch, TokenTable
from laurel.learner.tally import Tally
from laurel.policy import Packed, pack
from laurel.tree import FloatArray


@dataclass(frozen=True)
class StartOfUpdate:
    """Log-probabilities before the first of several optimiser steps, [A] each, aligned with the `TokenTable`."""

    old_log_probs: torch.Tensor
    reference_log_probs: torch.Tensor | None


@dataclass(frozen=True)
class Slopes:
    """Of an objective over whole rollouts, for the trees of an optimiser step that are cut into micro-batches.

    Attributes:
        of: [A] d loss / d log-probability of every scored token of such trees; 0 elsewhere.
        losses: the loss of each such tree, by the place of its first scored token in the `TokenTable`.
    """

    of: FloatArray
    losses: dict[int, float]


@dataclass(frozen=True)
class Work:
    """What all micro-batches of one optimiser step share; where a KL is measured, the parts that they add to it."""

    table: TokenTable
    weights: FloatArray
    start: StartOfUpdate | None
    tally: Tally
    divergences: list[torch.Tensor] = field(default_factory=list)
    constant: torch.Tensor | None = None
    slopes: Slopes | None = None


def packed_row(batch: Microbatch, device: torch.device) -> Packed:
    """The pieces of a micro-batch, laid out for one forward pass."""
    return pack([piece.tree for piece in batch.pieces], [piece.mask for piece in batch.pieces], device)


def on_device(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """An array as a tensor of the kind that `like` is."""
    return torch.from_numpy(values).to(like.device, like.dtype)


def nothing_to_learn(credits: Sequence[Credit]) -> str:
    """Why a batch has no gradient."""
    if not credits:
        return "there was no experience to learn from"
    if not any(credit.mask.any() for credit in credits):
        return "no token carries loss: every rollout failed, or the policy wrote nothing, or no answer was the better"
    return "every advantage is 0: within each group all rollouts earned the same"
