"""Learning values: the critic is asked before an update, and fitted to what credit says it should have said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from laurel.algorithms import Credit, Step, TrustRegion
from laurel.errors import ConfigurationError, LearnerError
from laurel.learner.batching import (
    Microbatch,
    Piece,
    fullest_microbatches,
    microbatches,
    pieces,
    shuffled_minibatches,
)
from laurel.learner.kept import below
from laurel.learner.optimiser import Optimiser, OptimiserSettings
from laurel.learner.tally import Tally
from laurel.metrics import Metric, merge
from laurel.policy import Critic, pack
from laurel.policy.critic import KINDS
from laurel.tree import FloatArray, Tree

PREFIX = "critic."
"""What the names of the critic's tensors start with in the state of a learner."""

_COUNTERS = "critic_"
_WEIGHTS, _MOMENTS = f"{PREFIX}weights.", f"{PREFIX}optimiser."


@dataclass(frozen=True)
class CriticSettings:
    """What values are read from, and how they are fitted. Only methods whose credit asks for values read it.

    Attributes:
        kind: "own": a copy of the policy that learns values in all its weights. "shared": a linear head on the
            policy's hidden states, which it reads and never moves; it costs next to nothing, and sees only what the
            policy made of the state.
        model: hub name or directory of another model as the trunk of "own"; it must read the policy's tokens.
        optimiser: learning rate, clipping and schedule of the critic alone.
        clip: a value may move this far, in units of the return, from what it was before the update and still be
            rewarded for it; None: as far as it likes.
        prefit_updates: in the first so many updates only the critic learns, and the policy stays as it is, so that it
            is not moved by values that mean nothing yet (VC-PPO, arXiv 2503.01491, section 4.1).
        epochs, minibatches: optimiser steps on one batch; None: as many as the policy takes.
    """

    kind: str = "own"
    model: str | None = None
    optimiser: OptimiserSettings = field(default_factory=lambda: OptimiserSettings(learning_rate=1e-5))
    clip: float | None = None
    prefit_updates: int = 0
    epochs: int | None = None
    minibatches: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigurationError(f"critic: unknown kind {self.kind!r}.", hint=f"use {' or '.join(KINDS)}.")
        if self.kind == "shared" and self.model is not None:
            raise ConfigurationError(
                "critic: a shared trunk is the policy's, so 'model' would not be read.", hint="leave it out."
            )
        if self.clip is not None and not self.clip > 0:
            raise ConfigurationError(f"critic: clip must be above 0, got {self.clip}.", hint="leave it out for none.")
        if self.prefit_updates < 0:
            raise ConfigurationError(
                f"critic: prefit_updates must be at least 0, got {self.prefit_updates}.", hint="0 is none."
            )
        for name in ("epochs", "minibatches"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"critic: {name} must be at least 1, got {value}.", hint="leave it out.")


def value_loss(
    values: torch.Tensor, targets: torch.Tensor, before: torch.Tensor, *, clip: float | None = None
) -> torch.Tensor:
    """loss_t = max((V - target)^2, (before + clamp(V - before, -clip, clip) - target)^2) / 2. [N].

    The gradient is zero exactly where V is nearer to the target than `before` was and has moved by more than `clip`.
    Without a clip it is the squared error over 2, whose minimum is the expected target.

    Source: Schulman et al., the implementation of PPO in OpenAI baselines (the paper has no value clip).
    """
    error = (values - targets).square()
    if clip is not None:
        error = torch.maximum(error, (before + (values - before).clamp(-clip, clip) - targets).square())
    return error / 2


def explained_variance(values: FloatArray, targets: FloatArray) -> float:
    """1 - Var(target - value) / Var(target): 1 is perfect, 0 no better than a constant; NaN where targets are equal."""
    spread = float(np.var(targets)) if len(targets) else 0.0
    return 1.0 - float(np.var(targets - values)) / spread if spread > 0 else float("nan")


class CriticLearner:
    """Reads a critic and fits it.

    One optimiser step minimises the mean of `value_loss` over all tokens of its trees that carry loss, whatever the
    policy's reduction: it is a regression, and every state that was visited counts once per visit.

    Args:
        critic: what is asked and fitted.
        settings: how.
        step: how often the policy uses a batch; so does the critic where its settings do not say.
        total_steps: updates in the whole run, for schedules.
        seed: fixes the order of trees.
        together, uncut: most tokens in one forward pass, and in one tree before it is cut.
    """

    def __init__(
        self,
        critic: Critic,
        settings: CriticSettings,
        step: Step | TrustRegion,
        *,
        total_steps: int | None,
        seed: int,
        together: int,
        uncut: int,
    ) -> None:
        self.critic = critic
        self.settings = settings
        self.seed = seed
        self._epochs = settings.epochs or step.epochs
        self._minibatches = settings.minibatches or step.minibatches
        self._together, self._uncut = together, uncut
        steps = self._epochs * self._minibatches
        self._optimiser = Optimiser(
            critic.trainable_parameters(),
            settings.optimiser,
            total_steps=None if total_steps is None else total_steps * steps,
        )

    @torch.no_grad()
    def values(self, trees: Sequence[Tree]) -> list[FloatArray]:
        """The value after every token, [T] per tree, under the critic as it is now."""
        read: list[FloatArray] = []
        whole = [Piece(tree, np.zeros(len(tree.flat), np.bool_), np.empty(0, np.int64)) for tree in trees]
        for batch in microbatches(whole, self._together):
            packed = pack([piece.tree for piece in batch.pieces], [piece.mask for piece in batch.pieces], self._device)
            values = self.critic.values(packed).double().cpu().numpy()
            read += [values[place] for place in packed.layout.trees]
        return read

    def fit(self, trees: Sequence[Tree], credits: Sequence[Credit], step: int) -> dict[str, Metric]:
        """Fit the critic to the value targets of one batch.

        Args:
            trees, credits: the batch; credits with `value_targets` and the `values` that they were made from.
            step: number of the update within the run; with the seed it fixes the order of minibatches.

        Returns:
            `critic/loss` and `critic/gradient_norm` per optimiser step; over all tokens with credit `critic/value`
            (before the fit), `critic/target`, and `critic/explained_variance`, of the targets by these values;
            `critic/clipped`, the fraction of tokens without gradient, where there is a value clip.

        Raises:
            LearnerError: if a credit has no targets, or a loss or gradient is not finite; the critic is then as it
                was before the optimiser step that failed.
        """
        offsets = np.cumsum([0, *(len(tree.flat) for tree in trees)])
        targets, before = _joined(trees, credits)
        taught = np.flatnonzero([credit.mask.any() for credit in credits]).tolist()
        planned = self._epochs * self._minibatches
        if not taught:
            self._optimiser.leave_out(planned)
            return {}
        parts = {i: pieces(trees[i], credits[i].mask, int(offsets[i]), self._uncut) for i in taught}
        scored = np.concatenate([piece.scored for index in taught for piece in parts[index]])
        metrics = {
            "critic/value": Metric.of(before[scored]),
            "critic/target": Metric.of(targets[scored]),
            "critic/explained_variance": Metric(explained_variance(before[scored], targets[scored]), 1.0),
        }
        tally = Tally()
        for chosen in shuffled_minibatches(len(trees), self._epochs, self._minibatches, [self.seed, step]):
            own = (piece for index in chosen for piece in parts.get(index, []))
            batches = fullest_microbatches(own, self._together)
            if batches:
                metrics = merge([metrics, self._optimiser_step(batches, targets, before, tally)])
                planned -= 1
        self._optimiser.leave_out(planned)
        return metrics | tally.metrics()

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """(tensors, JSON-able): the critic's weights and its optimiser; the tensors are the live ones."""
        moments, counters = self._optimiser.state()
        tensors = {f"{_WEIGHTS}{name}": tensor for name, tensor in self.critic.tensors().items()}
        tensors |= {f"{_MOMENTS}{name}": tensor for name, tensor in moments.items()}
        return tensors, {f"{_COUNTERS}{name}": count for name, count in counters.items()}

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, int]) -> None:
        """Go on as the critic that `state` came from. Tensors of others are not read.

        Raises:
            LearnerError, PolicyError: if it was another critic.
        """
        if f"{_COUNTERS}optimiser_steps" not in state:
            raise LearnerError("The saved learner has no critic.", hint="resume with the algorithm of the run.")
        self.critic.load_tensors(below(_WEIGHTS, tensors))
        self._optimiser.load_state(below(_MOMENTS, tensors), below(_COUNTERS, state))

    @property
    def _device(self) -> torch.device:
        return self.critic.trunk.device

    def _optimiser_step(
        self, batches: Sequence[Microbatch], targets: FloatArray, before: FloatArray, tally: Tally
    ) -> dict[str, Metric]:
        optimiser = self._optimiser
        optimiser.clear_gradients()
        count = sum(len(batch.scored) for batch in batches)
        total = 0.0
        for batch in batches:
            packed = pack([piece.tree for piece in batch.pieces], [piece.mask for piece in batch.pieces], self._device)
            values = self.critic.values(packed, packed.row_predictors).index_select(0, packed.row_of)
            wanted, said = (
                torch.from_numpy(a[batch.scored]).to(values.device, values.dtype) for a in (targets, before)
            )
            losses = value_loss(values, wanted, said, clip=self.settings.clip)
            loss = losses.sum() / count
            torch.autograd.backward(loss)
            optimiser.gather_gradients()
            total += float(loss.detach())
            if self.settings.clip is not None:
                tally.mean("critic/clipped", (losses > (values - wanted).square() / 2).to(values.dtype))
        norm = float(optimiser.gradient_norm())
        if not np.isfinite([total, norm]).all():
            optimiser.clear_gradients()
            names = ", ".join(list(dict.fromkeys(name for batch in batches for name in batch.rollout_ids))[:8])
            raise LearnerError(
                f"The critic's loss ({total}) or gradient ({norm}) is not finite, among the rollouts {names}.",
                hint="resume from the last checkpoint with a smaller critic.optimiser.learning_rate.",
            )
        optimiser.step(norm)
        return {"critic/loss": Metric(total, 1.0), "critic/gradient_norm": Metric(norm, 1.0)}


def _joined(trees: Sequence[Tree], credits: Sequence[Credit]) -> tuple[FloatArray, FloatArray]:
    """[A] targets and values before the update, all trees end to end."""
    targets, before = [np.empty(0)], [np.empty(0)]
    for tree, credit in zip(trees, credits, strict=True):
        if credit.value_targets is None or credit.values is None:
            raise LearnerError(
                f"Tree {tree.id}: its credit has no value targets to fit a critic to.",
                hint="take the credit from Learner.credit, with a rule that reads values.",
            )
        if not np.isfinite(credit.value_targets[credit.mask]).all():
            raise LearnerError(f"Tree {tree.id}: a value target is not finite.", hint="mend the reward.")
        targets.append(credit.value_targets)
        before.append(credit.values)
    return np.concatenate(targets), np.concatenate(before)
