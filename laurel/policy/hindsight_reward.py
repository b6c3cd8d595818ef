"""What a reward model says of an answer, paid step by step: more where the model looked when it had read all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from laurel.credit.hindsight import redistributed
from laurel.errors import ConfigurationError
from laurel.policy.importance import attention_importance, step_importance
from laurel.policy.learned_reward import LearnedReward
from laurel.policy.policy import Policy
from laurel.tasks.task import Task
from laurel.tree import STEP_PART, Failed, FloatArray, Rollout, Score


class HindsightReward:
    """A learned reward, redistributed over the steps of each rollout by attention; the sum stays.

        reward = HindsightReward(LearnedReward(model, writer=policy))
        algorithm = replace(rloo(), source=Sampled(step_separator="\\n"), credit=ProcessScores("", "rewards"))

    A step is a policy segment: a turn, or what `Sampled(step_separator=...)` cuts turns into. The score itself is 0,
    its parts are the steps', and the part `whole` is what the model says. See `laurel.credit.redistributed` for what
    this is and what it is not.

    Args:
        learned: a reward model that reads the tokens that the policy writes.

    Raises:
        ConfigurationError: it reads others.
    """

    runs_in_process = True
    pays_steps_alone = True

    def __init__(self, learned: LearnedReward) -> None:
        if not learned.reads_tokens:
            raise ConfigurationError(
                "The reward model reads other tokens than the policy writes, so its attention is to other steps.",
                hint="give LearnedReward(model, writer=policy) with a model of the policy's own tokens.",
            )
        self.learned = learned

    @property
    def description(self) -> dict[str, object]:
        """What a run records of it."""
        return {"type": type(self).__name__, "learned": self.learned.description}

    def __call__(self, task: Task, rollout: Rollout) -> Score | Failed:
        return self.score_rollouts([(task, rollout)])[0]

    def score_rollouts(self, asked: Sequence[tuple[Task, Rollout]]) -> list[Score | Failed]:
        """One result per rollout, in their order."""
        said = self.learned.score_rollouts(asked)
        read = [rollout for (_, rollout), result in zip(asked, said, strict=True) if isinstance(result, Score)]
        weights = iter(steps_read([self.learned.model.trunk], read))
        return [stepwise(result, next(weights)) if isinstance(result, Score) else result for result in said]


def steps_read(trunks: Sequence[Policy], rollouts: Sequence[Rollout]) -> list[FloatArray]:
    """The importance of every step of each rollout, the mean over trunks; each tree is read once."""
    found: dict[tuple[int, int], FloatArray] = {}
    for tree in {id(rollout.tree): rollout.tree for rollout in rollouts}.values():
        leaves = [rollout.leaf for rollout in rollouts if rollout.tree is tree]
        small, moved = tree.above(leaves)
        place = {leaf: number for number, leaf in enumerate(small.leaves)}
        per_trunk = [attention_importance(trunk, small) for trunk in trunks]
        for leaf in leaves:
            own = [weights[place[moved[leaf]]] for weights in per_trunk]
            found[id(tree), leaf] = step_importance(small, moved[leaf], np.mean(own, axis=0))
    return [found[id(rollout.tree), rollout.leaf] for rollout in rollouts]


def stepwise(score: Score, importance: FloatArray) -> Score:
    """A score of 0 whose steps have shares of what the score was; its own parts stay."""
    shares = redistributed(score.value, importance).tolist()
    steps: Mapping[str, float] = {f"{STEP_PART}{number}": share for number, share in enumerate(shares, start=1)}
    return Score(0.0, {**score.parts, "whole": score.value, **steps})
