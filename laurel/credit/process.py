"""Process scores: numbers that were given to the steps of a rollout, as credit of their tokens.

A step is a policy segment. Its score is read from the parts of the rollout's own score, where
`laurel.rewards.step_scores` puts them, or is the reward that stands on the segment.

    prompt | step a (score 0.5) | step b (score 0.25) <end>  scores R = 1

    as values    A(a) = 0.5 - V(prompt)     A(b) = 1 - 0.5          b ends the rollout: R is known, 0.25 is not read
    as rewards   A(a) = 0.75 + 1 - b        A(b) = 0.25 + 1 - b     b: what the other samples earned from the prompt on
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from laurel.credit.credit import Credit
from laurel.credit.fans import live_children, live_segments, prompt_end, spread
from laurel.credit.returns import Returns, TotalReward
from laurel.credit.temporal import ends_truncated, final_rewards
from laurel.errors import ConfigurationError, TreeError
from laurel.tree import STEP_PART, FloatArray, Rollout, Score, Source, Tree

Reading = Literal["values", "rewards"]


@dataclass(frozen=True)
class ProcessScores:
    """Advantages of steps from their scores; all tokens of a step share its advantage.

    As values, the score of a step is what is still to come in the state where the next one begins:

        A(step) = what is paid from its first token to the next step + V(its end) - V(its start)

    With exact values the expected gradient is exact, with others it has their bias. A rollout that terminated has
    nothing to come, so its last score is not read; a truncated one bootstraps with it.

    As rewards, the score is paid with the step: A(step) = sum of scores and rewards from it on + the final score -
    baseline. The expected gradient is exactly that of the expected sum.

    V(prompt), and the baseline, is the mean over the *other* samples of the prompt of what they earned (as rewards,
    their scores included): independent of the sample, so it has no bias. A single sample has 0.

    Attributes:
        part: the name of the step scorer among the parts of a `weighted` reward; "" if it is the whole reward; None:
            the scores are the rewards that stand on policy segments, and as values they are no part of the return.
        reading: "values" or "rewards".

    Raises (when called):
        TreeError: a rollout that did not fail has not one score per step; names the rollout.

    Source: Lightman et al. 2023, arXiv 2305.20050 (scores per step); Wang et al. 2024, arXiv 2312.08935, section 3.3
    (as values: the chance of a right answer); Shao et al. 2024, arXiv 2402.03300, section 4.1.3 (as rewards).
    """

    part: str | None = ""
    reading: Reading = "values"
    returns: Returns = field(default_factory=TotalReward)

    def __post_init__(self) -> None:
        if self.reading not in get_args(Reading):
            raise ConfigurationError(
                f"Process scores cannot be read as {self.reading!r}.", hint=f"use {' or '.join(get_args(Reading))}."
            )

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        return [self._credit(tree) for tree in trees]

    def _credit(self, tree: Tree) -> Credit:
        live = ~np.isnan(self.returns(tree))
        if self.part is None:
            policy = [segment.source is Source.POLICY for segment in tree.segments]
            scores = np.array([s.reward if own else 0.0 for s, own in zip(tree.segments, policy, strict=True)])
            kept = (replace(s, reward=0.0) if own else s for s, own in zip(tree.segments, policy, strict=True))
            tree = replace(tree, segments=tuple(kept))
        else:
            scores = step_scores_of(tree, self.part, live)
        earned = np.where(live, self.returns(tree), np.nan)
        if self.reading == "rewards":
            ahead = _to_come(tree, earned, scores)
            return spread(tree, ahead - _others(tree, live, ahead), live)
        starts = _others(tree, live, _to_come(tree, earned, np.zeros(len(scores))))
        worth = _to_next_step(tree, earned, scores)
        for index, segment in enumerate(tree.segments[1:], start=1):
            before = segment.parent
            while before > 0 and tree.segments[before].source is not Source.POLICY:
                before = tree.segments[before].parent
            if tree.segments[before].source is Source.POLICY:
                starts[index] = scores[before]
        return spread(tree, worth - starts, live)


def step_scores_of(tree: Tree, part: str, live: np.ndarray) -> FloatArray:
    """The score of every policy segment, [S]: the mean over the live rollouts that pass it; 0 on the others.

    Args:
        part: as in `ProcessScores`.
        live: [R], which rollouts count, aligned with `tree.leaves`.

    Raises:
        TreeError: as there.
    """
    sums, counts = np.zeros(len(tree.segments)), np.zeros(len(tree.segments))
    for rollout, counted in zip(tree.rollouts, live.tolist(), strict=True):
        if counted:
            steps = [index for index in tree.path(rollout.leaf) if tree.segments[index].source is Source.POLICY]
            sums[steps] += _parts(rollout, part, len(steps))
            counts[steps] += 1
    return sums / np.maximum(counts, 1)


def _parts(rollout: Rollout, part: str, steps: int) -> list[float]:
    prefix = f"{part}/{STEP_PART}" if part else STEP_PART
    score = rollout.outcome.score if rollout.outcome is not None else None
    parts = score.parts if isinstance(score, Score) else {}
    given = sum(name.startswith(prefix) for name in parts)
    if given != steps:
        raise TreeError(
            f"Rollout {rollout.id} has {steps} steps and {given} scores named '{prefix}...'.",
            hint="grade with laurel.rewards.step_scores, under the name that the credit rule is given.",
        )
    return [parts[f"{prefix}{number}"] for number in range(1, steps + 1)]


def _to_come(tree: Tree, earned: FloatArray, scores: FloatArray) -> FloatArray:
    """Rewards and scores from each segment on, its own included, the mean over live continuations; [S]."""
    children, final = live_children(tree, live_segments(tree, ~np.isnan(earned))), final_rewards(tree, earned)
    ahead = np.zeros(len(tree.segments))
    for index in range(len(tree.segments) - 1, -1, -1):
        onward = float(np.mean(ahead[children[index]])) if children[index] else final.get(index, 0.0)
        ahead[index] = tree.segments[index].reward + scores[index] + onward
    return ahead


def _to_next_step(tree: Tree, earned: FloatArray, scores: FloatArray) -> FloatArray:
    """What is paid from each segment to where the next step begins, and the value there; [S]."""
    children, final = live_children(tree, live_segments(tree, ~np.isnan(earned))), final_rewards(tree, earned)
    worth, step = np.zeros(len(tree.segments)), np.zeros(len(tree.segments), np.int64)
    for index, segment in enumerate(tree.segments):
        step[index] = index if segment.source is Source.POLICY else step[max(segment.parent, 0)]
    for index in range(len(tree.segments) - 1, 0, -1):
        value = scores[step[index]]
        onward = [
            value if tree.segments[child].source is Source.POLICY else float(worth[child]) for child in children[index]
        ]
        if not onward:
            onward = [final.get(index, 0.0) + (value if ends_truncated(tree.segments[index]) else 0.0)]
        worth[index] = tree.segments[index].reward + float(np.mean(onward))
    return worth


def _others(tree: Tree, live: np.ndarray, ahead: FloatArray) -> FloatArray:
    """For all that lies below a sample of the prompt, the mean of `ahead` over the other samples; [S]."""
    start, below = prompt_end(tree, live)
    others = np.zeros(len(tree.segments))
    if len(below) > 1:
        others[below] = (ahead[below].sum() - ahead[below]) / (len(below) - 1)
    for index in range(start + 1, len(tree.segments)):
        if index not in below:
            others[index] = others[tree.segments[index].parent]
    return others
