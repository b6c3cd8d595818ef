"""Several reward models that learn from the same few labels, and differ where the labels do not decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch

from laurel.errors import ConfigurationError
from laurel.learner.judged_pairs import judged_as, judged_pair
from laurel.learner.kept import below
from laurel.learner.optimiser import OptimiserSettings
from laurel.learner.reward_models import RewardLearner
from laurel.metrics import Metric, merge
from laurel.objectives.reward_models import Predictions, RewardBatch, RewardObjective
from laurel.policy import LearnedReward, Policy, RewardModel, reward_model_for
from laurel.preferences.queries import Pair, pseudo_labels
from laurel.tasks.task import Task
from laurel.tree import FloatArray, Rollout, Score, Tree

Start = Literal["uniform", "random", "zero"]


@dataclass(frozen=True)
class EnsembleSettings:
    """How an ensemble of reward models is fitted to labels.

    Attributes:
        members: how many models, each with a trunk of its own, a copy of the policy at the start of the run.
        start: what they say before any label. "zero": every reward is 0; members differ only by which labels they see
            when. "random": heads drawn at random, which differ in whatever nobody has asked about, and whose first
            rewards are arbitrary. "uniform": random heads, then fitted until the rewards of the first batch of rollouts
            are equal (Verma and Kambhampati 2023, arXiv 2302.08733), so that no first opinion has to be unlearned; most
            of what members differ in goes with it, elsewhere too.
        learns_trunk: False: only the heads learn.
        steps: optimiser steps whenever labels are new, and to make the start uniform.
        pairs: labels drawn for each step, with replacement, for each member on its own.
        pseudo_threshold: also learn from pairs that nobody labelled, where a member is surer than this
            (`laurel.preferences.queries.pseudo_labels`); None: from labels alone.
        pseudo_pairs: at most so many of them beside the labels of a step; each counts as much as a label.
        optimiser: of each member. The default rate suits pretrained trunks; small ones from scratch want 1e-3 and more.
    """

    members: int = 3
    start: Start = "random"
    learns_trunk: bool = True
    steps: int = 40
    pairs: int = 32
    pseudo_threshold: float | None = None
    pseudo_pairs: int = 32
    optimiser: OptimiserSettings = field(default_factory=lambda: OptimiserSettings(learning_rate=1e-5))

    def __post_init__(self) -> None:
        for name in ("members", "steps", "pairs", "pseudo_pairs"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {getattr(self, name)}.", hint="raise it.")
        if self.start not in get_args(Start):
            raise ConfigurationError(
                f"Reward models cannot start {self.start!r}.", hint=f"use {', '.join(get_args(Start))}."
            )
        if self.pseudo_threshold is not None:
            pseudo_labels(np.zeros(0), self.pseudo_threshold)


@dataclass(frozen=True)
class EqualRewards:
    """The mean square of the rewards of a prompt's answers, whatever their scores: least where all are 0."""

    def start(self) -> torch.Tensor:
        """See `RewardObjective`."""
        return torch.zeros(0, dtype=torch.float64)

    def teaches(self, scores: Sequence[float]) -> bool:
        """See `RewardObjective`."""
        return len(scores) > 0

    def losses(self, batch: RewardBatch, own: torch.Tensor) -> torch.Tensor:
        """See `RewardObjective`."""
        sums = torch.zeros(batch.prompt_count, dtype=torch.float64, device=batch.rewards.device)
        counts = torch.bincount(batch.prompts, minlength=batch.prompt_count)
        return sums.index_add(0, batch.prompts, batch.rewards**2) / counts

    def predictions(self, batch: RewardBatch, own: torch.Tensor) -> Predictions:
        """See `RewardObjective`."""
        return Predictions(batch.rewards.new_zeros(0), batch.rewards.new_zeros(0))


class RewardMembers:
    """The ensemble while it is fitted.

    Args:
        policy: what the trunks start as; later updates of it do not reach them.
        settings: see there.
        objective: the likelihood of labels.
        seed: fixes the heads, and which labels a step sees.

    Attributes:
        models: the members.
    """

    def __init__(self, policy: Policy, settings: EnsembleSettings, objective: RewardObjective, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self.models: list[RewardModel] = []
        for number in range(settings.members):
            model = reward_model_for(policy, learns_trunk=settings.learns_trunk)
            if settings.start != "zero":
                draw = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
                with torch.no_grad():
                    model.head.copy_(torch.randn(model.head.shape, generator=draw) / model.width**0.5)
            self.models.append(model)
        self._learners = [RewardLearner(model, objective, settings.optimiser) for model in self.models]
        self._readers = [LearnedReward(model, writer=policy) for model in self.models]

    def rewards(self, asked: Sequence[tuple[Task, Rollout]]) -> tuple[FloatArray, dict[int, str]]:
        """What members say of rollouts, [M, R], and by the number of a rollout why one of them cannot read it (NaN)."""
        said = np.full((len(self._readers), len(asked)), np.nan)
        failures: dict[int, str] = {}
        for member, reader in enumerate(self._readers):
            for number, result in enumerate(reader.score_rollouts(asked)):
                if isinstance(result, Score):
                    said[member, number] = result.value
                else:
                    failures.setdefault(number, f"member {member} of the ensemble: {result.reason}")
        return said, failures

    def level(self, trees: Sequence[Tree]) -> None:
        """Fit until rollouts are worth the same, where the settings ask for that; before the first label."""
        if self._settings.start != "uniform":
            return
        graded = [judged_as(tree, dict.fromkeys(tree.leaves, 0.0)) for tree in trees]
        for model in self.models:
            learner = RewardLearner(model, EqualRewards(), self._settings.optimiser)
            for _ in range(self._settings.steps):
                learner.update(graded)

    def fit(
        self, labelled: Sequence[Tree], trees: Sequence[Tree], pairs: Sequence[Pair], rewards: FloatArray, round: int
    ) -> dict[str, Metric]:
        """`steps` optimiser steps of every member on labels, and on pairs that nobody labelled where it is sure.

        Args:
            labelled: trees of two judged answers each.
            trees, pairs: what could have been asked about.
            rewards: [M, Q, 2] what members say of both sides of each pair.
            round: a number that no other call has, which fixes the draws.

        Returns:
            metrics of the last step, and `labels/pseudo`, the share of pairs that members labelled themselves.
        """
        settings = self._settings
        metrics: list[dict[str, Metric]] = []
        for member, learner in enumerate(self._learners):
            draw = np.random.default_rng([self._seed, member, round])
            own = self._self_labelled(trees, pairs, rewards[member])
            found: dict[str, Metric] = {}
            for _ in range(settings.steps):
                chosen = draw.integers(len(labelled), size=min(settings.pairs, len(labelled)))
                batch = [labelled[place] for place in chosen.tolist()]
                if own:
                    more = draw.permutation(len(own))[: settings.pseudo_pairs]
                    batch += [own[place] for place in more.tolist()]
                found = learner.update(batch)
            if settings.pseudo_threshold is not None:
                found["labels/pseudo"] = Metric(float(len(own)), float(len(pairs)))
            metrics.append(found)
        return merge(metrics)

    def state(self) -> tuple[dict[str, torch.Tensor], list[dict[str, int]]]:
        """(tensors, JSON-able) of all members."""
        tensors: dict[str, torch.Tensor] = {}
        counters: list[dict[str, int]] = []
        for number, learner in enumerate(self._learners):
            own, count = learner.state()
            tensors |= {f"{number}.{name}": tensor for name, tensor in own.items()}
            counters.append(count)
        return tensors, counters

    def load_state(self, tensors: Mapping[str, torch.Tensor], counters: Sequence[Mapping[str, Any]]) -> None:
        """Go on from `state()`."""
        for number, (learner, count) in enumerate(zip(self._learners, counters, strict=True)):
            learner.load_state(below(f"{number}.", tensors), count)

    def _self_labelled(self, trees: Sequence[Tree], pairs: Sequence[Pair], rewards: FloatArray) -> list[Tree]:
        """The pairs [Q] that a member is sure of, as if labelled, from its rewards of both sides [Q, 2]."""
        threshold = self._settings.pseudo_threshold
        if threshold is None or not pairs:
            return []
        labels, sure = pseudo_labels(np.exp(-np.logaddexp(0.0, rewards[:, 1] - rewards[:, 0])), threshold)
        return [
            judged_pair(trees[pair.tree], pair.leaves, float(label))
            for pair, label, counts in zip(pairs, labels, sure, strict=True)
            if counts
        ]
