"""Process rewards: what a model says of every step of a rollout, from a head at the ends of steps or from two policies.

Both give scores as `laurel.rewards.step_scores` does, under the names that `laurel.credit.ProcessScores` reads, with a
value of 0 unless the steps are put together (`laurel.rewards.aggregate`), which is what best-of-n compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from laurel.algorithms.steps import step_ends
from laurel.credit import steps_of
from laurel.errors import ConfigurationError
from laurel.policy.learned_reward import LearnedReward
from laurel.policy.packed import pack
from laurel.policy.policy import Policy, Reference
from laurel.policy.read_rollouts import RolloutReader, same_tokens
from laurel.policy.reward_model import RewardModel
from laurel.policy.step_judge import StepJudge
from laurel.rewards.steps import Aggregation, StepScores, aggregate, check_aggregation
from laurel.tree import STEP_PART, FloatArray, IntArray, Rollout, Score, Source, Tree


class _OfSteps(RolloutReader):
    """A reader of every step: every policy segment of a rollout."""

    scores_steps: ClassVar[Literal[True]] = True

    def ends(self, tree: Tree, leaf: int) -> Sequence[int]:
        return steps_of(Rollout(tree, leaf))

    def cut(self, tokens: IntArray, rollout: Rollout) -> list[IntArray]:
        texts = [segment.text for segment in rollout.segments if segment.source is Source.POLICY]
        ends = step_ends(tokens, texts, self.reader.decode)
        return [tokens[start:end] for start, end in zip([0, *ends], ends, strict=False)]


class ProcessReward(_OfSteps, LearnedReward):
    """The probability that each step is right, sigma(what the reward model says at its end), as the parts of a score.

        weighted({"right": (numeric_answer(), 1.0), "process": (ProcessReward(model), 0.0)})

    Args:
        model: fitted by `laurel.objectives.StepLabels`.
        aggregation: the score itself: "min", "product", "last" or "mean" of the steps; None: 0.
        writer: see `RolloutReader`.

    Source: Lightman et al. 2023, arXiv 2305.20050, section 2.6 and appendix F; Math-Shepherd, arXiv 2312.08935.
    """

    def __init__(
        self, model: RewardModel, *, aggregation: Aggregation | None = None, writer: Policy | None = None
    ) -> None:
        check_aggregation(aggregation)
        super().__init__(model, writer=writer)
        self.aggregation = aggregation

    @property
    def description(self) -> dict[str, object]:
        return {**super().description, "aggregation": self.aggregation}

    @property
    def pays_steps_alone(self) -> bool:
        """See `laurel.rewards.steps.pays_steps_alone`."""
        return self.aggregation is None

    def read_for(self, writer: Policy) -> ProcessReward:
        return ProcessReward(self.model, aggregation=self.aggregation, writer=writer)

    def scored(self, said: Sequence[float]) -> Score:
        return _score(1 / (1 + np.exp(-np.array(said, np.float64))), self.aggregation)


class ImplicitProcessReward(_OfSteps):
    """The rewards that a policy stands for, relative to another one:

        r(step) = beta * sum over its tokens of log pi(token) - log ref(token)

    Their sum over a rollout is beta log pi(y)/ref(y). Where pi maximises E[R] - beta KL(pi, ref), r(token) =
    Q(state, token) - V(state), the soft values of R, and the sum is R(y) - beta log Z. So a policy that was trained by
    `dpo`, or on outcomes alone, scores steps that nobody labelled.

    Args:
        model, reference: pi and ref; they must read the same tokens. A `Reference` is what a policy was.
        beta: above 0; that of the training of pi.
        total: whether the score itself is the sum of the steps, for best-of-n and as an outcome reward; else 0.
        writer: see `RolloutReader`.

    Source: Yuan et al. 2024, arXiv 2412.01981, proposition 3.1; Cui et al. 2025 (PRIME), arXiv 2502.01456, equation 3;
    for the identity Rafailov et al. 2024, arXiv 2404.12358, section 4.
    """

    def __init__(
        self,
        model: Policy,
        reference: Policy | Reference,
        *,
        beta: float,
        total: bool = False,
        writer: Policy | None = None,
    ) -> None:
        super().__init__(model, writer=writer)
        if not beta > 0:
            raise ConfigurationError(f"beta must be above 0, got {beta!r}.", hint="that of the policy's training.")
        if isinstance(reference, Policy) and not same_tokens(model, reference):
            raise ConfigurationError(
                f"{model.name} and {reference.name} read other tokens.",
                hint="take the policy that it was trained from.",
            )
        self.model, self.reference, self.beta, self.total = model, reference, beta, total

    @property
    def description(self) -> Mapping[str, Any]:
        """What a run records of it."""
        reference = self.reference.description if isinstance(self.reference, Policy) else self.reference.name
        kept = {"model": self.model.description, "reference": reference, "beta": self.beta, "total": self.total}
        return {"type": type(self).__name__, **kept}

    @property
    def pays_steps_alone(self) -> bool:
        """See `laurel.rewards.steps.pays_steps_alone`."""
        return not self.total

    def read_for(self, writer: Policy) -> ImplicitProcessReward:
        return ImplicitProcessReward(self.model, self.reference, beta=self.beta, total=self.total, writer=writer)

    def token_rewards(self, trees: Sequence[Tree]) -> list[FloatArray]:
        """beta (log pi - log ref) of every token of each tree, [T]; 0 where the policy wrote nothing."""
        rewards = []
        packed = pack(trees, [tree.flat.policy for tree in trees], self.reader.device)
        with torch.no_grad():
            ours = self.model.token_scores(packed, entropy=False).log_probs.double()
            theirs = self.reference.token_scores(packed, entropy=False).log_probs.double()
        values = (self.beta * (ours - theirs)).cpu().numpy()
        for tree in trees:
            own, values = np.split(values, [int(tree.flat.policy.sum())])
            whole = np.zeros(len(tree.flat))
            whole[tree.flat.policy] = own
            rewards.append(whole)
        return rewards

    def read(self, trees: Sequence[Tree], segments: Sequence[Sequence[int]]) -> list[float]:
        said: list[float] = []
        for tree, rewards, ends in zip(trees, self.token_rewards(trees), segments, strict=True):
            flat = tree.flat
            said += [float(rewards[flat.starts[end] : flat.ends[end]].sum()) for end in ends]
        return said

    def scored(self, said: Sequence[float]) -> Score:
        return _score(np.array(said), "sum" if self.total else None)


def step_scorers_in(reward: Any) -> list[Policy | Reference]:
    """The policies that a reward asks about single steps, also in its parts: an implicit reward's two, a step judge."""
    if isinstance(reward, ImplicitProcessReward):
        return [reward.model, reward.reference]
    if isinstance(reward, StepScores) and isinstance(reward.scorer, StepJudge):
        return [reward.scorer.policy]
    return [scorer for part in getattr(reward, "rewards", ()) for scorer in step_scorers_in(part)]


def _score(steps: FloatArray, aggregation: Aggregation | None) -> Score:
    values = steps.tolist()
    parts = {f"{STEP_PART}{number}": value for number, value in enumerate(values, start=1)}
    return Score(0.0 if aggregation is None else aggregate(values, aggregation), parts)
