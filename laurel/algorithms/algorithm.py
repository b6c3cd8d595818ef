"""An algorithm is a value: where experience comes from, who gets the credit, what is minimised, how it is averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from laurel.tree import BoolArray, FloatArray, Tree

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Credit:
    """What one tree teaches, aligned with `tree.flat`.

    Attributes:
        advantages: [T] float64; 0 where `mask` is False.
        mask: [T] which tokens carry loss: policy tokens (never others) with at least one rollout below that did not
            fail.
    """

    advantages: FloatArray
    mask: BoolArray

    @property
    def carries_signal(self) -> bool:
        """Whether any token has a non-zero advantage; a group whose rollouts all score the same has none."""
        return bool(np.any(self.advantages[self.mask] != 0))


class CreditRule(Protocol):
    """Trees to per-token advantages. A rule sees all trees of a step, because some normalise over the batch."""

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]: ...


@dataclass(frozen=True)
class TokenBatch:
    """The scored tokens of one micro-batch, N of them, for objectives and regularisers. All tensors are [N].

    Attributes:
        log_probs: log-probability now, with gradient.
        old_log_probs: at the start of the update, without gradient (equal to `log_probs` in value when there is one
            update per batch).
        sampler_log_probs: under the distribution that drew the token; NaN for demonstrations.
        entropy: of the distribution at the token, in nats, with gradient.
        advantages: the credit.
        rollout: index of the rollout (leaf) that the token belongs to, unique within the step; for a token that
            several rollouts share, the first of them.
        reference_log_probs: under the named reference, or None when no regulariser asks for it.
    """

    log_probs: torch.Tensor
    old_log_probs: torch.Tensor
    sampler_log_probs: torch.Tensor
    entropy: torch.Tensor
    advantages: torch.Tensor
    rollout: torch.Tensor
    reference_log_probs: torch.Tensor | None = None


class TokenLoss(Protocol):
    """A per-token loss [N] to be minimised, and diagnostics as per-token values [N] (averaged by the same weights)."""

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]: ...


class Reduction(Protocol):
    """The weight of every token in the loss of a whole optimiser step; loss = sum over tokens of weight * loss.

    Numerator and denominator are one thing, decided before any micro-batch exists: no split can change the gradient.
    """

    def __call__(self, trees: Sequence[Tree], masks: Sequence[BoolArray]) -> list[FloatArray]: ...


@dataclass(frozen=True)
class Sampled:
    """Experience is drawn from the current policy.

    Attributes:
        discard_without_signal: draw further prompts in place of groups in which every rollout scored the same
            (dynamic sampling).
        maximum_draws: how many times `prompts_per_step` prompts may be drawn for one step.
    """

    discard_without_signal: bool = False
    maximum_draws: int = 1


@dataclass(frozen=True)
class Demonstrated:
    """Experience is the tasks' own `reference` answers, written by someone else."""


@dataclass(frozen=True)
class Step:
    """How often one batch of experience is used.

    Attributes:
        epochs: passes over the batch.
        minibatches: optimiser steps per pass; trees are shuffled by (run seed, step, epoch).
    """

    epochs: int = 1
    minibatches: int = 1

    @property
    def on_policy(self) -> bool:
        """One optimiser step per batch: the ratio of new to old probabilities is exactly 1."""
        return self.epochs * self.minibatches == 1


@dataclass(frozen=True)
class Algorithm:
    """A complete method. The named ones are functions in `laurel.algorithms` that return one of these.

    Attributes:
        name, title, paper: what it is called and where it comes from.
        equation: what is maximised, in one line of plain text, with the resolved settings.
        deviations: where this differs from the paper, or "none".
        source, credit, objective, regularisers, reduction, step: the six visible choices.
    """

    name: str
    title: str
    paper: str
    equation: str
    source: Sampled | Demonstrated
    credit: CreditRule
    objective: TokenLoss
    reduction: Reduction
    regularisers: tuple[TokenLoss, ...] = ()
    step: Step = field(default_factory=Step)
    deviations: str = "none"

    @property
    def needs_reference(self) -> bool:
        """Whether some part reads log-probabilities of the reference policy."""
        return any(getattr(part, "needs_reference", False) for part in (self.objective, *self.regularisers))
