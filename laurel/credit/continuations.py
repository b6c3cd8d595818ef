"""Monte-Carlo values: what a state is worth, seen from continuations that are drawn there and not learned from.

    prompt -+- a a | b b b      sample 0, cut at a place "|" that is worth a look
            |      +- x x       a continuation of the place: its return says what "a a" was worth, and no more
            |      +- y
            +- c c c            sample 1

advantage(step) = value(its end) - value(its start), every policy token of the step alike. Here
A(a a) = mean(R(aabbb), R(aaxx), R(aay)) - R(ccc) and A(b b b) = R(aabbb) - mean(R(aaxx), R(aay)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from laurel.credit.credit import Credit
from laurel.credit.fans import branch_advantages, spread
from laurel.credit.groups import leave_one_out
from laurel.credit.returns import Returns, TotalReward
from laurel.errors import TreeError
from laurel.tree import Segment, Tree

_MARK = "@"


@dataclass(frozen=True, order=True)
class Place:
    """A state in the middle of a tree: after the first `at` tokens of a segment, which may be all of them."""

    segment: int
    at: int


@dataclass(frozen=True)
class MonteCarloValues:
    """value = the mean return of the rollouts below a state; A(step) = value(end) - value(start without the step).

    The value at the start of a step leaves the step itself out, so that it does not depend on the tokens that are
    judged: at the prompt it is the mean over the other samples, at a place the mean over its continuations. The value
    at its end is the mean over everything below, the rollout itself included. Where the places are chosen by what came
    before them, the expected gradient is exact, with any number of continuations from 1 on. Without places this is
    `LeaveOneOut`.

    Continuations carry no loss. A failed one is no number and leaves its mean; a place where all of them failed is as
    if it had not been looked at. Truncated rollouts count with the score that they were given: nothing is bootstrapped.

    Source: VinePPO, arXiv 2410.01679, equations 5 to 7; `laurel.algorithms.vine_ppo` states the deviations.
    """

    returns: Returns = field(default_factory=TotalReward)

    def __call__(self, trees: Sequence[Tree]) -> list[Credit]:
        credits = []
        for tree in trees:
            returns = self.returns(tree)
            sampled = np.array([not is_continuation(tree.segments[leaf].rollout_id) for leaf in tree.leaves])
            advantages = branch_advantages(tree, returns, leave_one_out)
            credits.append(spread(tree, advantages, sampled & ~np.isnan(returns)))
        return credits


def continuation_name(place: str, position: int, sample: int) -> str:
    """The rollout id of a continuation: of rollout (or tree) `place`, after `position` tokens of the path."""
    return f"{place}{_MARK}{position}.{sample}"


def is_continuation(rollout_id: str | None) -> bool:
    """Whether a rollout was drawn to see what a state is worth, rather than to be learned from."""
    return rollout_id is not None and _MARK in rollout_id


def continued(rollout_id: str) -> str:
    """The rollout that a continuation (or a continuation of one) branched from; a sample is its own."""
    return rollout_id.split(_MARK)[0]


def cut(tree: Tree, places: Sequence[Place]) -> tuple[Tree, list[int]]:
    """The same tree, cut at all of these places, and the segment that ends at each of them.

    Raises:
        TreeError: if a place is not in the tree.
    """
    cuts: dict[int, set[int]] = {}
    for place in places:
        if not (0 <= place.segment < len(tree.segments) and 0 < place.at <= len(tree.segments[place.segment])):
            raise TreeError(f"Tree {tree.id}: there is no {place}.", hint="count from 1 to the segment's length.")
        if place.at < len(tree.segments[place.segment]):
            cuts.setdefault(place.segment, set()).add(place.at)
    segments: list[Segment] = []
    last: list[int] = []  # of each old segment, the new one that ends where it ended
    for index, segment in enumerate(tree.segments):
        parent = last[segment.parent] if segment.parent >= 0 else -1
        for part in _parts(segment, sorted(cuts.get(index, ()))):
            segments.append(replace(part, parent=parent))
            parent = len(segments) - 1
        last.append(parent)
    ends = [
        last[place.segment] - sum(at >= place.at for at in cuts.get(place.segment, ()))
        if place.at < len(tree.segments[place.segment])
        else last[place.segment]
        for place in places
    ]
    return replace(tree, segments=tuple(segments)), ends


def _parts(segment: Segment, cuts: Sequence[int]) -> list[Segment]:
    parts = [replace(segment, parent=-1)]
    for at in reversed(cuts):
        parts[:1] = Tree("cut", "cut", (parts[0],)).split(0, at).segments
    return parts
