"""The one learner: experience with its credit becomes optimiser steps, for every algorithm alike."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch

from laurel.algorithms import Algorithm, Credit, Sampled, Step, TrustRegion
from laurel.credit import CreditRule, CriticRule, OffPolicyRule
from laurel.errors import ConfigurationError, LearnerError
from laurel.learner.batching import (
    Microbatch,
    Piece,
    TokenTable,
    fullest_microbatches,
    pieces,
    shuffled_minibatches,
)
from laurel.learner.constraints import COEFFICIENT, Constraints
from laurel.learner.losses import Losses
from laurel.learner.measures import advantage_metrics, age_metrics, check_age
from laurel.learner.optimiser import OptimiserSettings
from laurel.learner.pass_tokens import PassTokens
from laurel.learner.ratios import sampler_log_ratios
from laurel.learner.rollouts import Judged, RolloutObjective
from laurel.learner.tally import Tally
from laurel.learner.trust_region import TrustRegionSearch, mover
from laurel.learner.values import PREFIX, CriticLearner, CriticSettings
from laurel.learner.work import Work, nothing_to_learn, packed_row
from laurel.metrics import Metric, merge
from laurel.policy import Critic, Packed, Policy, Reference
from laurel.policy.critic import check_tokens
from laurel.tree import BoolArray, FloatArray, Tree

_NAMES_IN_ERRORS = 8


@dataclass(frozen=True)
class UpdateReport:
    """What one update did.

    Attributes:
        metrics: see `Learner.update`.
        skipped: why there was nothing to learn, so that nothing was changed, or None.
        refused: why the step of a trust region was not taken, so that nothing was changed, or None.
    """

    metrics: dict[str, Metric]
    skipped: str | None = None
    refused: str | None = None


class Learner:
    """Turns trees and their credit into changes of the policy's weights.

    One optimiser step minimises

        sum over scored tokens t of  weight_t * (objective_t + sum of regularisers_t)

    with the weights of `algorithm.reduction` over all trees of that step, computed before it is cut into
    micro-batches: any cut gives the same gradient. An objective over whole rollouts has one loss per prompt, which
    counts as much as its tokens together. A tree that is too large for one pass is cut there too: one pass more,
    without a graph, says by how much each token's log-probability moves the loss (`RolloutObjective.slopes`).

    Args:
        policy: whose trainable parameters change.
        algorithm: the method.
        optimiser: learning rate, clipping, schedule; None: the defaults. A method with a trust region has none.
        total_steps: updates in the whole run; the linear and cosine schedules need it.
        reference: the snapshot that a regulariser compares with, or that of the teacher.
        critic, critic_settings: what credit reads values from, and how it is fitted, where the algorithm asks for
            values.
        seed: fixes the order of trees where one batch is used for several optimiser steps.
        tokens_per_microbatch: how many distinct tokens one forward pass holds (only a single longer path exceeds it);
            None: what suits the device, and a tree that is not much larger stays whole (`laurel.learner.pass_tokens`).

    Raises:
        ConfigurationError: if the algorithm needs a reference or a critic and there is none, the schedule does not
            fit, or there are optimiser settings that a trust region would not read.
        PolicyError: if the critic reads other tokens than the policy writes.
    """

    def __init__(
        self,
        policy: Policy,
        algorithm: Algorithm,
        optimiser: OptimiserSettings | None = None,
        *,
        total_steps: int | None = None,
        reference: Reference | None = None,
        critic: Critic | None = None,
        critic_settings: CriticSettings | None = None,
        seed: int = 0,
        tokens_per_microbatch: int | None = None,
    ) -> None:
        _check_parts(algorithm, reference, critic, tokens_per_microbatch)
        self.policy = policy
        self.algorithm = algorithm
        self.reference = reference if algorithm.needs_reference else None
        self.seed = seed
        size = PassTokens.of(tokens_per_microbatch, policy.device)
        self._together, self._uncut = size.together, size.uncut
        self._constraints = Constraints(algorithm, policy, self.reference, together=self._together, uncut=self._uncut)
        self._whole = RolloutObjective.of(algorithm, policy, self.reference)
        self._losses = Losses(policy, algorithm, self.reference, self._constraints, self._whole)
        self._steps_per_update = algorithm.step.epochs * algorithm.step.minibatches
        self.critic = critic if algorithm.needs_critic else None
        self._critic: CriticLearner | None = None
        self._prefit = 0
        if self.critic is not None:
            check_tokens(policy, self.critic.trunk)
            chosen = critic_settings or CriticSettings()
            self._prefit = chosen.prefit_updates
            self._critic = CriticLearner(
                self.critic,
                chosen,
                algorithm.step,
                total_steps=total_steps,
                seed=seed,
                together=self._together,
                uncut=self._uncut,
            )
        if total_steps is not None and total_steps <= self._prefit:
            raise ConfigurationError(
                f"The critic is fitted alone for {self._prefit} updates of {total_steps}, so the policy never learns.",
                hint="lower critic.prefit_updates, or take more steps.",
            )
        policy_steps = None if total_steps is None else (total_steps - self._prefit) * self._steps_per_update
        self._optimiser = mover(policy, algorithm, optimiser, policy_steps)
        self._stop_at = algorithm.step.maximum_kl if isinstance(algorithm.step, Step) else None

    @property
    def version(self) -> int:
        """Number of optimiser steps behind the current weights."""
        return self._optimiser.done

    def values(self, trees: Sequence[Tree]) -> list[FloatArray]:
        """What the critic says after every token, [T] per tree.

        Raises:
            LearnerError: if the algorithm has no critic.
        """
        if self._critic is None:
            raise LearnerError(f"'{self.algorithm.name}' has no critic.", hint="choose a method with one, such as ppo.")
        return self._critic.values(trees)

    def credit(self, trees: Sequence[Tree]) -> list[Credit]:
        """The algorithm's credit for graded trees; its critic, where it has one, is asked as it is now.

        Penalties are taken off the rewards before, with the coefficients of the moment; the trees stay as they are.

        Call it before `update`, on all trees of the batch together: the values that advantages were made from go with
        the credit, and the critic is fitted only afterwards.
        """
        shaped, log_ratios = self._constraints.shaped(trees)
        credits = self._credit(shaped)
        if log_ratios is None:
            return credits
        return [replace(c, reference_log_ratios=seen) for c, seen in zip(credits, log_ratios, strict=True)]

    def _credit(self, trees: Sequence[Tree]) -> list[Credit]:
        if self._critic is None:
            return cast(CreditRule, self.algorithm.credit)(trees)
        values = self._critic.values(trees)
        if self.algorithm.needs_log_ratios:
            ratios = sampler_log_ratios(self.policy, trees, together=self._together, uncut=self._uncut)
            credits = cast(OffPolicyRule, self.algorithm.credit)(trees, values, ratios)
        else:
            credits = cast(CriticRule, self.algorithm.credit)(trees, values)
        said = [np.where(c.mask, v[t.flat.parent], 0.0) for c, v, t in zip(credits, values, trees, strict=True)]
        return [replace(credit, values=before) for credit, before in zip(credits, said, strict=True)]

    def update(self, trees: Sequence[Tree], credits: Sequence[Credit], step: int) -> UpdateReport:
        """Learn from one batch of experience.

        Trees in which every advantage is 0 are counted by the reduction but not computed, unless a regulariser has
        something to say about them: their gradient is 0. A batch without any gradient changes nothing, not even the
        optimiser's moments, and the report says why.

        A critic is fitted to the same batch after the policy has learned from it (in its first updates, where it is
        to be fitted before the policy moves, instead); see `CriticLearner.fit` for its metrics.

        Args:
            trees, credits: the batch; `credits[i]` is aligned with `trees[i].flat`.
            step: number of the update within the run; with the seed it fixes the order of minibatches.

        Returns:
            A report with these metrics beside the diagnostics of objective and regularisers:
            `loss`, `gradient_norm` (before clipping), `learning_rate`, `weights_changed` (fraction, in the precision
            of the computation) per optimiser step; `entropy`, `policy_version_lag` per scored token; `advantage` and
            `advantage_std` over all tokens with credit; `sampler_difference`, the distance between the log-probs
            that drew a token and the learner's, and `kl_sampler`, the estimate r - 1 - log r of KL(sampler, policy),
            both at the first pass, before any change; there too, where the method compares with a reference,
            `kl/reference`, the estimate r - 1 - log r of KL(policy, reference) in nats per token; `greatest_log_ratio`
            and other maxima named `greatest_...`; per update `distinct_tokens` of the batch, `computed_tokens` (those
            in forward passes that have a backward pass, over all optimiser steps), `scored_tokens` and `microbatches`;
            `skipped_steps`, the fraction of optimiser steps without any gradient. Where the method bounds the KL of an
            update, `stopped_steps`, the fraction of its optimiser steps that were left out, and `greatest_kl_old`, the
            greatest that was measured. Of constraints, `.../coefficient` in this update and what it follows: see
            `laurel.learner.constraints`.
            Under a trust region the metrics of `laurel.learner.trust_region.Outcome` stand in place of `learning_rate`.

        Raises:
            LearnerError: if credit and trees do not fit, if tokens were drawn by other weights than the present ones
                and the method neither corrects for that (a `sampler_correction`,
                `laurel.credit.VTrace`) nor imitates, or if a loss or gradient is not finite. The weights are then as
                they were before the optimiser step that failed; the message names the rollouts.
        """
        if self._critic is None:
            return self._learn(trees, credits, step)
        if step > self._prefit:
            report = self._learn(trees, credits, step)
        else:
            report = UpdateReport(dict(advantage_metrics(credits)), f"only the critic learns until step {self._prefit}")
        return replace(report, metrics=report.metrics | self._critic.fit(trees, credits, step))

    def _learn(self, trees: Sequence[Tree], credits: Sequence[Credit], step: int) -> UpdateReport:
        before = self.version
        report = self._update_policy(trees, credits, step)
        if not isinstance(self._optimiser, TrustRegionSearch):
            self._optimiser.leave_out(self._steps_per_update - (self.version - before))
        return replace(report, metrics=report.metrics | self._constraints.follow(trees, credits, report.metrics))

    def _update_policy(self, trees: Sequence[Tree], credits: Sequence[Credit], step: int) -> UpdateReport:
        table = TokenTable.of(trees, credits)
        metrics = {"distinct_tokens": Metric(float(table.offsets[-1]), 1.0), **advantage_metrics(credits)}
        taught = [index for index, credit in enumerate(credits) if self._teaches(credit)]
        if not taught:
            count = float(self._steps_per_update)
            return UpdateReport(metrics | {"skipped_steps": Metric(count, count)}, nothing_to_learn(credits))
        if isinstance(self.algorithm.step, TrustRegion):  # its KL counts the states that teach nothing too
            taught = [index for index, credit in enumerate(credits) if credit.mask.any()]
        masks = {i: credits[i].mask if self._whole is None else self._whole.loss_mask(credits[i]) for i in taught}
        uncut = self._uncut if self._whole is None else sys.maxsize  # what is compared is one piece at first
        parts = {i: pieces(trees[i], masks[i], int(table.offsets[i]), uncut) for i in taught}
        wide = self._wide(trees, masks, table, parts)
        everything = self._batches(taught, parts, wide)
        if isinstance(self.algorithm.source, Sampled) and not self.algorithm.corrects_sampler:
            check_age(everything, table, self.version, self.algorithm.name)
        metrics |= age_metrics(np.concatenate([table.policy_versions[b.scored] for b in everything]), self.version)
        tally = Tally()
        start = None
        if not self.algorithm.step.on_policy:
            start = self._losses.start(everything, table, tally)
        skipped = taken = 0
        counts = {"scored_tokens": 0, "computed_tokens": 0, "microbatches": 0}
        usage = self.algorithm.step
        for chosen in shuffled_minibatches(len(trees), usage.epochs, usage.minibatches, [self.seed, step]):
            batches = self._batches(chosen, parts, wide)
            if not batches:
                skipped += 1
                continue
            weights = self._weights(trees, credits, table, chosen)
            work = Work(table, weights, start, tally)
            if self._whole is not None:
                work = replace(work, constant=self._whole.constant(trees, credits, table, chosen, self._together))
                cut = [index for index in chosen if index in wide]
                slopes = self._whole.slopes([wide[i] for i in cut], [parts[i][0] for i in cut], work)
                work = replace(work, slopes=slopes)
            done = self._optimiser_step(work, batches)
            if done is None:
                break
            taken += 1
            metrics = merge([metrics, done])
            counts["scored_tokens"] += sum(len(batch.scored) for batch in batches)
            counts["computed_tokens"] += sum(batch.computed_tokens for batch in batches)
            counts["microbatches"] += len(batches)
        metrics |= {name: Metric(float(count), 1.0) for name, count in counts.items()}
        metrics["skipped_steps"] = Metric(float(skipped), float(self._steps_per_update))
        if self._stop_at is not None:
            left_out = self._steps_per_update - skipped - taken
            metrics["stopped_steps"] = Metric(float(left_out), float(self._steps_per_update))
        refused = self._optimiser.refused if isinstance(self._optimiser, TrustRegionSearch) else None
        return UpdateReport(metrics | tally.metrics(), refused=refused)

    def judge(self, trees: Sequence[Tree]) -> Judged:
        """What the method says of judged answers under the policy as it is; meant for held-out ones.

        Prompts whose answers say nothing to the method (all are judged alike) are left out.

        Raises:
            LearnerError: the method compares no answers, or no prompt says anything.
        """
        if self._whole is None:
            raise LearnerError(f"'{self.algorithm.name}' compares no answers.", hint="take one that does, such as dpo.")
        credited = zip(trees, self.credit(trees), strict=True)
        telling = [(tree, credit) for tree, credit in credited if credit.carries_signal]
        if not telling:
            raise LearnerError("There is no judgement to compare with.", hint="hold out answers whose scores differ.")
        kept, credits = [tree for tree, _ in telling], [credit for _, credit in telling]
        return self._whole.judge(kept, credits, TokenTable.of(kept, credits), self._together, self._uncut)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """(tensors, JSON-able): everything beside the policy's parameters that later updates depend on.

        The tensors are the live ones: write them before the next update.
        """
        tensors, counters = self._optimiser.state()
        if self._whole is not None:
            tensors = tensors | self._whole.state()
        if self._critic is not None:
            fitted, more = self._critic.state()
            tensors, counters = tensors | fitted, counters | more
        return tensors, {**counters, **self._constraints.state()}

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, float]) -> None:
        """Go on as the learner that `state` came from; the policy's parameters must have been loaded before.

        Raises:
            LearnerError: if the state belongs to another policy; nothing is changed then.
        """
        self._constraints.load_state(state)
        counters = {name: int(count) for name, count in state.items() if not name.startswith(COEFFICIENT)}
        if self._critic is not None:
            self._critic.load_state(tensors, counters)
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
        if self._whole is not None:
            tensors = self._whole.load_state(tensors)
        self._optimiser.load_state(tensors, counters)

    def _teaches(self, credit: Credit) -> bool:
        return credit.carries_signal or (bool(self.algorithm.regularisers) and bool(credit.mask.any()))

    def _wide(
        self, trees: Sequence[Tree], masks: Mapping[int, BoolArray], table: TokenTable, parts: Mapping[int, list[Piece]]
    ) -> dict[int, list[Microbatch]]:
        """The trees of compared rollouts that are too large for one pass, each cut between its leaves."""
        if self._whole is None or isinstance(self.algorithm.step, TrustRegion):
            return {}
        return {
            i: [
                Microbatch((piece,), cut=True)
                for piece in pieces(trees[i], masks[i], int(table.offsets[i]), self._together)
                if len(piece.scored)
            ]
            for i, (whole,) in parts.items()
            if len(whole.mask) > self._uncut
        }

    def _batches(
        self, chosen: Sequence[int], parts: Mapping[int, list[Piece]], wide: Mapping[int, list[Microbatch]]
    ) -> list[Microbatch]:
        """The micro-batches of an optimiser step."""
        narrow = (piece for index in chosen if index not in wide for piece in parts.get(index, []))
        return [*fullest_microbatches(narrow, self._together), *(b for index in chosen for b in wide.get(index, []))]

    def _weights(
        self, trees: Sequence[Tree], credits: Sequence[Credit], table: TokenTable, chosen: list[int]
    ) -> FloatArray:
        """[A] the weight of every token in one optimiser step; NaN for tokens of other trees, which nobody reads."""
        weights = np.full(table.offsets[-1], np.nan)
        parts = self.algorithm.reduction([trees[i] for i in chosen], [credits[i].mask for i in chosen])
        for index, part in zip(chosen, parts, strict=True):
            if not np.isfinite(part[credits[index].mask]).all():
                raise LearnerError(f"A token of tree {trees[index].id} has a weight that is not finite.")
            weights[table.offsets[index] : table.offsets[index + 1]] = part
        return weights

    def _optimiser_step(self, work: Work, batches: list[Microbatch]) -> dict[str, Metric] | None:
        """None: the policy is farther from where the update began than it may be, and nothing was changed."""
        optimiser = self._optimiser
        optimiser.clear_gradients()
        losses = [self._backward(batch, work) for batch in batches]
        *values, norm = torch.stack([*losses, optimiser.gradient_norm().to(losses[0].dtype)]).tolist()
        if not np.isfinite([*values, norm]).all():
            self._refuse(batches, values, work)
        if self._stop_at is not None:
            measured = float(torch.cat(work.divergences).mean())
            work.tally.greatest("kl_old", torch.tensor(measured))
            if measured > self._stop_at:
                optimiser.clear_gradients()
                return None
        loss = float(np.sum(values))
        metrics = {"loss": Metric(loss, 1.0), "gradient_norm": Metric(norm, 1.0)}
        if isinstance(optimiser, TrustRegionSearch):
            rows = [packed_row(batch, self.policy.device) for batch in batches]
            outcome, changed, inspected = optimiser.step(rows, loss, lambda: self._measured(batches, rows, work))
            metrics |= outcome.metrics()
        else:
            metrics["learning_rate"] = Metric(optimiser.learning_rate, 1.0)
            changed, inspected = optimiser.step(norm)
        return metrics | {"weights_changed": Metric(float(changed), float(inspected))}

    def _backward(self, batch: Microbatch, work: Work) -> torch.Tensor:
        """Add the gradient of one micro-batch to that of the optimiser step; its part of the loss, a scalar."""
        loss = self._losses.of(batch, packed_row(batch, self.policy.device), work)
        tokens = loss.tokens
        torch.autograd.backward(loss.total)
        self._optimiser.gather_gradients()
        work.tally.mean("entropy", tokens.entropy)
        if self._stop_at is not None:
            log_ratio = (tokens.log_probs - tokens.old_log_probs).detach().double()
            work.divergences.append(torch.expm1(log_ratio) - log_ratio)
        work.tally.greatest("log_ratio", (tokens.log_probs - tokens.old_log_probs).abs())
        for name, values in loss.diagnostics.items():
            work.tally.mean(name, values, loss.weights)
        return loss.total.detach()

    @torch.no_grad()
    def _measured(self, batches: list[Microbatch], rows: list[Packed], work: Work) -> float:
        """The loss of an optimiser step under the weights as they are."""
        silent = replace(work, tally=Tally())
        losses = [self._losses.of(batch, packed, silent).total for batch, packed in zip(batches, rows, strict=True)]
        return float(np.sum(torch.stack(losses).tolist()))

    def _refuse(self, batches: list[Microbatch], losses: list[float], work: Work) -> None:
        """Raise for the micro-batch whose loss or gradient is not finite; where all are finite alone, for all."""
        what, culprits = "loss", [b for b, loss in zip(batches, losses, strict=True) if not np.isfinite(loss)]
        if not culprits:
            what = "gradient"
            for batch in batches:
                self._optimiser.clear_gradients()
                self._backward(batch, replace(work, tally=Tally(), divergences=[]))
                if not bool(torch.isfinite(self._optimiser.gradient_norm())):
                    culprits.append(batch)
        self._optimiser.clear_gradients()
        names = [name for batch in culprits or batches for name in batch.rollout_ids]
        listed = ", ".join(names[:_NAMES_IN_ERRORS])
        more = f" and {len(names) - _NAMES_IN_ERRORS} more" if len(names) > _NAMES_IN_ERRORS else ""
        raise LearnerError(
            f"The {what} is not finite at optimiser step {self.version + 1}, in the micro-batch of rollouts "
            f"{listed}{more}. The weights were not changed.",
            hint="resume from the last checkpoint with a smaller learning rate, and look at these rollouts.",
        )


def _check_parts(
    algorithm: Algorithm, reference: Reference | None, critic: Critic | None, tokens_per_microbatch: int | None
) -> None:
    if algorithm.needs_reference and reference is None:
        raise ConfigurationError(
            f"'{algorithm.name}' compares the policy with a reference, and there is none.",
            hint="pass reference=policy.snapshot('start').",
        )
    if algorithm.needs_critic and critic is None:
        raise ConfigurationError(
            f"'{algorithm.name}' takes its credit from a critic, and there is none.",
            hint="pass critic=laurel.policy.critic_for(policy).",
        )
    if tokens_per_microbatch is not None and tokens_per_microbatch < 1:
        raise ConfigurationError(
            f"tokens_per_microbatch must be at least 1, got {tokens_per_microbatch}.",
            hint="leave it out to have it chosen.",
        )
