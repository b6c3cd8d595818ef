"""Turns that began in the same state, compared with each other: what the siblings of a prompt did from there."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

import numpy as np

from laurel.credit.credit import Credit
from laurel.credit.fans import Comparison, live_segments
from laurel.credit.groups import leave_one_out, sibling_mean, standardised
from laurel.credit.returns import Returns, TotalReward
from laurel.credit.rules import LeaveOneOut, SiblingMean, Standardised
from laurel.credit.temporal import check_fractions
from laurel.credit.turns import turn_targets
from laurel.errors import ConfigurationError
from laurel.tree import FloatArray, Source, Tree

DialogueState = Callable[[tuple[str, ...]], Hashable]
"""What was said and answered so far, in turn, to the state that it led to; () is before the first turn."""

Baseline = Literal["deviation", "mean", "leave_one_out"]


@dataclass(frozen=True)
class AnchorStates:
    """A(turn) = compare(R of the rollouts) + weight compare(G of all turns of the prompt that began in its state).

    R is the return of a rollout and G what a turn still earns, discounted by turns. Nothing is learned: rollouts of one
    prompt come by the same states by themselves, and each time one does, what followed is a sample of what the state is
    worth. A turn in whose state no other began is judged by its rollout alone.

    By `leave_one_out` both parts are exact where every rollout comes by a state, once: what others did is no matter of
    one's own action, also where the state is a wrong one, which then only adds noise. Where it depends on the policy
    which states are met, the second part weighs each by how often there is somebody to compare with. `mean` shrinks a
    comparison of n by 1 - 1/n, and `deviation` makes all comparisons equally large.

    Attributes:
        weight: omega, of the second part.
        discount: gamma per turn, in [0, 1], of G.
        state: "observation": the tokens that the turn answers; "history": all tokens before it; or a function of the
            dialogue.
        baseline: how both parts compare.

    Source: GiGPO, arXiv 2505.10978, section 4: `deviation` and `mean` are its two normalisations.
    """

    weight: float = 1.0
    discount: float = 0.95
    state: Literal["observation", "history"] | DialogueState = "observation"
    baseline: Baseline = "deviation"
    epsilon: float = 1e-6
    returns: Returns = field(default_factory=TotalReward)

    def __post_init__(self) -> None:
        check_fractions(discount=self.discount)
        if not self.weight >= 0 or not np.isfinite(self.weight):
            raise ConfigurationError(f"The weight must be at least 0, got {self.weight!r}.", hint="1 is the paper's.")
        if self.baseline not in get_args(Baseline):
            raise ConfigurationError(
                f"Unknown baseline {self.baseline!r}.", hint=f"use {', '.join(get_args(Baseline))}."
            )
        if not callable(self.state) and self.state not in ("observation", "history"):
            raise ConfigurationError(
                f"Unknown state {self.state!r}.", hint="use observation, history, or a function of the dialogue."
            )

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        rules: dict[Baseline, Standardised | SiblingMean | LeaveOneOut] = {
            "deviation": Standardised(epsilon=self.epsilon, returns=self.returns),
            "mean": SiblingMean(self.returns),
            "leave_one_out": LeaveOneOut(self.returns),
        }
        whole = rules[self.baseline]
        credits = []
        for tree, credit in zip(trees, whole(trees), strict=True):
            of_turns = self.weight * self.turn_advantages(tree)[tree.flat.segment]
            credits.append(Credit(np.where(credit.mask, credit.advantages + of_turns, 0.0), credit.mask))
        return credits

    def turn_advantages(self, tree: Tree) -> FloatArray:
        """The second part, without its weight, of every policy segment; 0 on the others. [S]"""
        returns = self.returns(tree)
        to_go, _ = turn_targets(tree, np.zeros(len(tree.flat)), returns, discount=self.discount)
        live = live_segments(tree, ~np.isnan(returns))
        groups: dict[Hashable, list[int]] = {}
        for index, segment in enumerate(tree.segments):
            if live[index] and _begins_turn(tree, index) and segment.source is Source.POLICY:
                groups.setdefault(self.state_of(tree, index), []).append(index)
        advantages = np.zeros(len(tree.segments))
        for members in groups.values():
            advantages[members] = self._compare(to_go[members])
        for index, segment in enumerate(tree.segments):  # a turn that is cut in several segments is one turn
            if segment.source is Source.POLICY and not _begins_turn(tree, index):
                advantages[index] = advantages[segment.parent]
        return advantages

    def state_of(self, tree: Tree, turn: int) -> Hashable:
        """The state in which a turn, the segment `turn`, begins."""
        before = tree.path(turn)[:-1]
        if callable(self.state):
            return self.state(_dialogue(tree, before))
        if self.state == "observation":
            said = [n for n, index in enumerate(before, start=1) if tree.segments[index].source is Source.POLICY]
            before = before[said[-1] :] if said else before
        return tuple(tree.segments[index].tokens.tobytes() for index in before)

    @property
    def _compare(self) -> Comparison:
        if self.baseline == "deviation":
            return partial(standardised, epsilon=self.epsilon)
        return sibling_mean if self.baseline == "mean" else leave_one_out


def _begins_turn(tree: Tree, index: int) -> bool:
    return tree.segments[tree.segments[index].parent].source is not Source.POLICY


def _dialogue(tree: Tree, path: Sequence[int]) -> tuple[str, ...]:
    """What was said after the prompt, neighbouring segments of one author joined."""
    texts: list[str] = []
    author: Source | None = None
    for segment in (tree.segments[index] for index in path):
        if segment.source is Source.PROMPT:
            continue
        if segment.source is author:
            texts[-1] += segment.text
        else:
            texts.append(segment.text)
        author = segment.source
    return tuple(texts)
