"""What has been drawn so far for each rollout, and the trees that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from laurel.environments import Episode
from laurel.tree import (
    Ending,
    Failed,
    Float32Array,
    IntArray,
    Outcome,
    Sampling,
    Segment,
    Source,
    Support,
    Tree,
)


@dataclass
class Record:
    """One rollout while it is drawn.

    Attributes:
        id: its name.
        key: its stream of random numbers.
        trunk: index of the prompt that it continues.
        segments: what came after the prompt, one after the other; parents are set when the tree is built.
        episode: what answers its turns.
        direct: whether that cannot hang, and is called without a deadline.
        turns: turns of the policy that are over.
        earlier: tokens of the present turn that stand in the tree already (branches in the middle).
        said: the text that the tree holds for them.
        unread: tokens at the end of the path that the policy has not computed yet, since somebody else goes on.
        outcome: set when it is over.
    """

    id: str
    key: int
    trunk: int
    episode: Episode | None = None
    direct: bool = False
    segments: list[Segment] = field(default_factory=list)
    turns: int = 0
    earlier: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    said: str = ""
    unread: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    outcome: Outcome | None = None

    def fail(self, reason: str, stop_reason: str = "environment") -> None:
        """The rollout broke; what was drawn stays visible, and carries no loss."""
        self.outcome = Outcome(Ending.FAILED, stop_reason, Failed(reason))

    def chain(self, parent: int, first: int, marker: int) -> list[Segment]:
        """The segments with their parents, the first of them being number `first` of its tree.

        A rollout that failed before its first token is a single environment token `marker`: it stays in the tree,
        with its reason, and no loss ever reaches it.
        """
        segments = self.segments
        if not segments:
            assert self.outcome is not None
            text = self.outcome.score.reason if isinstance(self.outcome.score, Failed) else ""
            segments = [Segment(Source.ENVIRONMENT, np.array([marker]), -1, text=text)]
        parents = [parent, *range(first, first + len(segments) - 1)]
        chained = [
            replace(segment, parent=above, rollout_id=self.id) for segment, above in zip(segments, parents, strict=True)
        ]
        chained[-1] = replace(chained[-1], outcome=self.outcome)
        return chained


class SupportLog:
    """The kept tokens of every draw, in the order of the steps; sorted by rollout once, at the end."""

    def __init__(self) -> None:
        self._steps: list[tuple[IntArray, IntArray, IntArray]] = []

    def add(self, rollouts: IntArray, counts: IntArray, ids: IntArray) -> None:
        """One step: row i kept `counts[i]` of `ids`."""
        self._steps.append((rollouts.copy(), counts, ids))

    def by_rollout(self) -> dict[int, Support]:
        """The support of all draws of each rollout, one after the other."""
        if not self._steps:
            return {}
        rollouts, counts, ids = (np.concatenate(part) for part in zip(*self._steps, strict=True))
        order = np.argsort(rollouts, kind="stable")
        starts = np.cumsum(counts) - counts
        sorted_counts = counts[order]
        offsets = np.concatenate([[0], np.cumsum(sorted_counts)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sorted_counts)
        sorted_ids = ids[np.repeat(starts[order], sorted_counts) + within]
        names, firsts = np.unique(rollouts[order], return_index=True)
        ends = [*firsts[1:].tolist(), len(order)]
        return {
            name: Support(sorted_ids[offsets[a] : offsets[b]], offsets[a : b + 1] - offsets[a])
            for name, a, b in zip(names.tolist(), firsts.tolist(), ends, strict=True)
        }


def with_supports(records: Sequence[Record], log: SupportLog) -> None:
    """Give each drawn segment its part of what was kept."""
    for index, support in log.by_rollout().items():
        record, done = records[index], 0
        for place, segment in enumerate(record.segments):
            if segment.source is not Source.POLICY:
                continue
            offsets = support.offsets[done : done + len(segment) + 1]
            part = Support(support.ids[offsets[0] : offsets[-1]], offsets - offsets[0])
            record.segments[place] = replace(segment, support=part)
            done += len(segment)


def drawn_segment(
    tokens: IntArray, log_probs: Float32Array, *, text: str, sampling: Sampling, policy_version: int
) -> Segment:
    """A turn of the policy; its parent comes with the tree."""
    return Segment(
        Source.POLICY,
        tokens,
        -1,
        text=text,
        sampler_log_probs=log_probs,
        sampling=sampling,
        policy_version=policy_version,
    )


def grow(
    id: str, task_id: str, trunk: Sequence[Segment], added: Sequence[tuple[int, Sequence[Record]]], marker: int
) -> Tree:
    """A tree with the records' segments added as children of segments of the trunk, given by number."""
    segments = list(trunk)
    for at, records in added:
        for record in records:
            segments += record.chain(at, len(segments), marker)
    return Tree.build(id, task_id, segments)
