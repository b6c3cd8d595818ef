"""The loss of a micro-batch: the scores of its tokens, the objective, and what holds the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch

from laurel.algorithms import Algorithm
from laurel.errors import LearnerError
from laurel.learner.batching import Microbatch, TokenTable
from laurel.learner.constraints import Constraints
from laurel.learner.measures import tally_reference, tally_sampler
from laurel.learner.rollouts import RolloutObjective, token_reference
from laurel.learner.tally import Tally
from laurel.learner.work import StartOfUpdate, Work, on_device, packed_row
from laurel.objectives import TokenBatch, TokenLoss
from laurel.policy import Packed, Policy, Reference, TokenScores


@dataclass(frozen=True)
class Loss:
    """The part of one micro-batch of N tokens in the loss of an optimiser step.

    Attributes:
        total: a scalar, with gradient.
        tokens: what it was made from.
        diagnostics: [N] each, by name; `weights` [N] are theirs, and those of the tokens in the loss.
    """

    total: torch.Tensor
    tokens: TokenBatch
    diagnostics: dict[str, torch.Tensor]
    weights: torch.Tensor


class Losses:
    """Makes losses of micro-batches, for every algorithm alike.

    Args:
        policy: whose scores have the gradient.
        algorithm: its objective and its form of a divergence.
        reference: what parts of the loss compare with, token by token or over the vocabulary.
        constraints: the regularisers, with the coefficients of the moment.
        whole: the objective at work, where it is over whole rollouts.
    """

    def __init__(
        self,
        policy: Policy,
        algorithm: Algorithm,
        reference: Reference | None,
        constraints: Constraints,
        whole: RolloutObjective | None,
    ) -> None:
        self._policy = policy
        self._algorithm = algorithm
        self._reference = token_reference(algorithm, reference)
        self._constraints = constraints
        self._whole = whole

    @torch.no_grad()
    def start(self, batches: Sequence[Microbatch], table: TokenTable, tally: Tally) -> StartOfUpdate:
        """Score everything before the first of several optimiser steps."""
        device = self._policy.device
        old: torch.Tensor | None = None
        reference: torch.Tensor | None = None
        for batch in batches:
            packed = packed_row(batch, device)
            scored = torch.from_numpy(batch.scored).to(device)
            log_probs = self._policy.token_scores(packed, entropy=False).log_probs
            if old is None:
                old = torch.full((int(table.offsets[-1]),), torch.nan, dtype=log_probs.dtype, device=device)
            old[scored] = log_probs
            if self._reference is not None:
                if reference is None:
                    reference = torch.full_like(old, torch.nan)
                reference[scored] = self._reference.token_scores(packed, entropy=False).log_probs
                tally_reference(tally, log_probs, reference[scored])
            tally_sampler(tally, log_probs, table.sampler_log_probs[batch.scored])
        assert old is not None
        return StartOfUpdate(old, reference)

    def of(self, batch: Microbatch, packed: Packed, work: Work) -> Loss:
        """The loss of a micro-batch, which `packed` lays out."""
        compared = self._reference if self._algorithm.needs_divergence else None
        scores = self._policy.token_scores(packed, reference=compared, form=self._algorithm.divergence)
        tokens = self._tokens(batch, work, scores, packed)
        weights = on_device(work.weights[batch.scored], scores.log_probs)
        loss: torch.Tensor = torch.zeros_like(scores.log_probs)
        diagnostics: dict[str, torch.Tensor] = {}
        if self._whole is None:
            loss, diagnostics = cast(TokenLoss, self._algorithm.objective)(tokens)
        for regulariser in self._constraints.regularisers:
            more, others = regulariser(tokens)
            if twice := diagnostics.keys() & others.keys():
                raise LearnerError(f"Two parts of '{self._algorithm.name}' report '{min(twice)}'.", hint="rename one.")
            loss, diagnostics = loss + more, diagnostics | others
        total = (weights * loss).sum()
        if self._whole is not None:
            total = total + self._whole.loss(batch, packed, tokens, work).to(total.dtype)
        return Loss(total, tokens, diagnostics, weights)

    def _tokens(self, batch: Microbatch, work: Work, scores: TokenScores, packed: Packed) -> TokenBatch:
        log_probs = scores.log_probs
        scored = torch.from_numpy(batch.scored).to(log_probs.device)
        sampler_log_probs = work.table.sampler_log_probs[batch.scored]
        reference = None
        if work.start is not None:
            old = work.start.old_log_probs[scored]
            if work.start.reference_log_probs is not None:
                reference = work.start.reference_log_probs[scored]
        else:
            old = log_probs.detach()
            tally_sampler(work.tally, old, sampler_log_probs)
            if self._reference is not None:
                reference = self._reference.token_scores(packed, entropy=False).log_probs
                tally_reference(work.tally, old, reference)
        return TokenBatch(
            log_probs=log_probs,
            old_log_probs=old,
            sampler_log_probs=on_device(sampler_log_probs, log_probs),
            entropy=scores.entropy,
            advantages=on_device(work.table.advantages[batch.scored], log_probs),
            rollout=torch.from_numpy(work.table.rollouts[batch.scored]).to(log_probs.device),
            reference_log_probs=reference,
            reference_divergence=scores.divergence,
            log_normaliser=scores.log_normaliser,
        )
