"""Recovering a reward inside a run: fitted to tell the expert's answers from the policy's, before it pays for these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from laurel.errors import ConfigurationError, LearnerError
from laurel.learner.batching import Microbatch, whole_trees
from laurel.learner.kept import below
from laurel.learner.optimiser import Optimiser, OptimiserSettings
from laurel.learner.pass_tokens import PassTokens
from laurel.learner.work import packed_row
from laurel.metrics import Metric
from laurel.objectives import Contrast, RewardForm
from laurel.policy import RewardModel, ShapedRewardModel
from laurel.policy.critic import KINDS
from laurel.tree import Ending, FloatArray, Rollout, Source, Tree

_WEIGHTS, _MOMENTS = "weights.", "optimiser."
_NAMES_IN_ERRORS = 8


@dataclass(frozen=True)
class RecoverySettings:
    """What a recovered reward is read from, and how it is fitted. Only methods that recover one read it.

    Attributes:
        kind: "own": a copy of the policy that learns in all its weights. "shared": a linear head on the policy's hidden
            states, which it reads and never moves.
        optimiser: learning rate, clipping and schedule of the reward alone.
        updates: optimiser steps on the answers of one step, each over all of them.
        replay: so many earlier steps' answers stand beside those of the step while the reward is fitted.
    """

    kind: str = "own"
    optimiser: OptimiserSettings = field(default_factory=lambda: OptimiserSettings(learning_rate=1e-5))
    updates: int = 1
    replay: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigurationError(f"recovery: unknown kind {self.kind!r}.", hint=f"use {' or '.join(KINDS)}.")
        for name, least in (("updates", 1), ("replay", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigurationError(f"recovery: {name} must be a whole number from {least}, got {value!r}.")


@dataclass(frozen=True)
class Read:
    """What a reward model says of the answers of some trees, and what it pays for them.

    Attributes:
        rewards, pays: [R] the reward of every rollout, and what the policy earns for it.
        expert: [R] bool.
    """

    rewards: FloatArray
    pays: FloatArray
    expert: FloatArray


class RecoveryLearner:
    """Fits a reward to trees in which an expert's answers stand beside the policy's, and says what it pays.

    One optimiser step minimises the mean over prompts of `form.losses`. A tree stays in one micro-batch, and what each
    prompt counts is fixed before: no split changes the gradient. Prompts without an answer of either side, and rollouts
    that failed, are left out.

    Args:
        model: what is fitted; a `ShapedRewardModel` where the form has a potential.
        form: its losses, and the pay.
        settings: how.
        total_steps: steps of the whole run, for schedules.
        tokens_per_microbatch: how many distinct tokens one forward pass holds (only a single tree exceeds it).
    """

    def __init__(
        self,
        model: RewardModel,
        form: RewardForm,
        settings: RecoverySettings,
        *,
        total_steps: int | None = None,
        tokens_per_microbatch: int | None = None,
    ) -> None:
        self.model = model
        self.form = form
        self.settings = settings
        self._optimiser = Optimiser(
            model.trainable_parameters(),
            settings.optimiser,
            total_steps=None if total_steps is None else total_steps * settings.updates,
        )
        self._together = PassTokens.of(tokens_per_microbatch, model.device).together

    def fit(self, trees: Sequence[Tree], log_probs: Sequence[FloatArray] | None = None) -> dict[str, Metric]:
        """`updates` optimiser steps on these answers.

        Args:
            trees: prompts with answers of both sides; what nobody drew (no policy version) is the expert's.
            log_probs: [T] per tree, log pi of the tokens that were written, where the form's loss reads it.

        Returns:
            Per optimiser step `recovery/loss` and `recovery/gradient_norm`; before the first of them
            `recovery/expert_reward` and `recovery/policy_reward`, the mean reward of either side's answers, and
            `recovery/told_apart`, the share of answers (or tokens) whose writer was told right, where the form tells.

        Raises:
            LearnerError: a loss or gradient is not finite; the model is then as it was before that step.
        """
        given = [None] * len(trees) if log_probs is None else list(log_probs)
        chosen = [(tree, said) for tree, said in zip(trees, given, strict=True) if len(set(_sides(tree))) == 2]
        if not chosen:
            self._optimiser.leave_out(self.settings.updates)
            return {}
        said = {id(tree): values for tree, values in chosen if values is not None}
        batches = whole_trees([tree for tree, _ in chosen], self._together)
        metrics = self._measured(batches, said)
        losses, norms = [], []
        for _ in range(self.settings.updates):
            loss, norm = self._step(batches, said, len(chosen))
            losses.append(loss)
            norms.append(norm)
        return metrics | {"recovery/loss": Metric.of(losses), "recovery/gradient_norm": Metric.of(norms)}

    @torch.no_grad()
    def read(self, trees: Sequence[Tree]) -> list[Read]:
        """Rewards and pay of all rollouts of each tree; the policy's log-probabilities are those that drew them."""
        said = {id(tree): np.nan_to_num(tree.flat.sampler_log_probs.astype(np.float64)) for tree in trees}
        found: list[Read] = []
        for batch in whole_trees(trees, self._together):
            contrast = self._contrast(batch, said, failed=True)
            pays = self.form.pays(contrast).cpu().numpy()
            rewards, expert = contrast.rewards.cpu().numpy(), contrast.expert.cpu().numpy()
            of_tree = contrast.prompts.cpu().numpy()
            for number in range(len(batch.pieces)):
                own = of_tree == number
                found.append(Read(rewards[own], pays[own], expert[own]))
        return found

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """(tensors, JSON-able): the weights and the optimiser; the tensors are the live ones."""
        moments, counters = self._optimiser.state()
        tensors = {f"{_WEIGHTS}{name}": tensor for name, tensor in self.model.tensors().items()}
        return tensors | {f"{_MOMENTS}{name}": tensor for name, tensor in moments.items()}, counters

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, int]) -> None:
        """Go on as the learner that `state` came from.

        Raises:
            LearnerError, PolicyError: if it fitted another model.
        """
        self.model.load_tensors(below(_WEIGHTS, tensors))
        self._optimiser.load_state(below(_MOMENTS, tensors), state)

    def _step(self, batches: Sequence[Microbatch], said: Mapping[int, FloatArray], count: int) -> tuple[float, float]:
        optimiser = self._optimiser
        optimiser.clear_gradients()
        total = 0.0
        for batch in batches:
            loss = self.form.losses(self._contrast(batch, said)).sum() / count
            torch.autograd.backward(loss)
            optimiser.gather_gradients()
            total += float(loss.detach())
        norm = float(optimiser.gradient_norm())
        if not np.isfinite([total, norm]).all():
            optimiser.clear_gradients()
            names = ", ".join([name for batch in batches for name in batch.rollout_ids][:_NAMES_IN_ERRORS])
            raise LearnerError(
                f"The loss ({total}) or gradient ({norm}) of the recovered reward is not finite, among {names}.",
                hint="resume from the last checkpoint with a smaller recovery.optimiser.learning_rate.",
            )
        optimiser.step(norm)
        return total, norm

    @torch.no_grad()
    def _measured(self, batches: Sequence[Microbatch], said: Mapping[int, FloatArray]) -> dict[str, Metric]:
        sides: dict[str, list[float]] = {"recovery/expert_reward": [], "recovery/policy_reward": []}
        told: list[float] = []
        for batch in batches:
            contrast = self._contrast(batch, said)
            for name, whose in zip(sides, (contrast.expert, ~contrast.expert), strict=True):
                sides[name] += contrast.rewards[whose].tolist()
            right = self.form.told(contrast)
            told += [] if right is None else right.tolist()
        metrics = {name: Metric.of(values) for name, values in sides.items()}
        return metrics | ({"recovery/told_apart": Metric.of(told)} if told else {})

    def _contrast(self, batch: Microbatch, said: Mapping[int, FloatArray], *, failed: bool = False) -> Contrast:
        """The answers of a micro-batch as the form reads them; those that failed only where they are asked for."""
        layout = _Layout.of([piece.tree for piece in batch.pieces], said, failed=failed)
        packed, device = packed_row(batch, self.model.device), self.model.device
        before = after = None
        if isinstance(self.model, ShapedRewardModel):
            rewards, potentials = self.model.rewards_and_potentials(packed, layout.ends, layout.before)
            before, after = potentials.double(), potentials.double().roll(-1)
        else:
            rewards = self.model.rewards(packed, layout.ends)
        return Contrast(
            rewards=rewards.double(),
            expert=torch.from_numpy(layout.expert).to(device),
            prompts=torch.from_numpy(layout.prompts).to(device),
            prompt_count=len(batch.pieces),
            log_probs=torch.from_numpy(layout.log_probs).to(device) if said else None,
            owner=torch.from_numpy(layout.owner).to(device),
            before=before,
            after=after,
            last=torch.from_numpy(layout.last).to(device),
        )


@dataclass(frozen=True)
class _Layout:
    """Where R answers with N written tokens stand in the row of a micro-batch; [R]: `ends` (their last tokens),
    `expert`, `prompts`; [N]: `before` (the token before), `owner`, `last`, `log_probs`."""

    ends: np.ndarray
    expert: np.ndarray
    prompts: np.ndarray
    before: np.ndarray
    owner: np.ndarray
    last: np.ndarray
    log_probs: FloatArray

    @classmethod
    def of(cls, trees: Sequence[Tree], said: Mapping[int, FloatArray], *, failed: bool) -> _Layout:
        ends, expert, prompts = [], [], []
        before, last, log_probs, lengths = [], [], [], []
        offset = 0
        for number, tree in enumerate(trees):
            for rollout in tree.rollouts:
                if not failed and _failed(rollout):
                    continue
                written = _written(rollout)
                ends.append(offset + int(tree.flat.ends[rollout.leaf]) - 1)
                expert.append(is_expert(rollout))
                prompts.append(number)
                before.append(offset + tree.flat.parent[written])
                last.append(np.arange(len(written)) == len(written) - 1)
                log_probs.append(said[id(tree)][written] if said else np.zeros(len(written)))
                lengths.append(len(written))
            offset += len(tree.flat)
        return cls(
            ends=np.array(ends),
            expert=np.array(expert),
            prompts=np.array(prompts),
            before=np.concatenate(before),
            owner=np.repeat(np.arange(len(lengths)), lengths),
            last=np.concatenate(last),
            log_probs=np.concatenate(log_probs),
        )


def is_expert(rollout: Rollout) -> bool:
    """Whether an answer was demonstrated: nobody's weights drew it."""
    return rollout.tree.segments[rollout.leaf].policy_version is None


def _written(rollout: Rollout) -> np.ndarray:
    """Flat indices of the tokens that were written in a rollout, in their order."""
    flat, segments = rollout.tree.flat, rollout.tree.segments
    path = [index for index in rollout.tree.path(rollout.leaf) if segments[index].source is Source.POLICY]
    return np.concatenate([np.empty(0, np.int64), *(np.arange(flat.starts[s], flat.ends[s]) for s in path)])


def _failed(rollout: Rollout) -> bool:
    return rollout.outcome is not None and rollout.outcome.ending is Ending.FAILED


def _sides(tree: Tree) -> list[bool]:
    return [is_expert(rollout) for rollout in tree.rollouts if not _failed(rollout)]
