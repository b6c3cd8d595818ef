"""Every state in which an expert answered, with the answer: what DAgger learns from, and what checkpoints keep."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from laurel.policy import Policy
from laurel.tree import Ending, IntArray, Outcome, Sampling, Score, Segment, Source, Tree

ANSWERED = Outcome(Ending.TERMINATED, "expert", Score(1.0))
"""How an expert's answer ends: it hangs beside what was really played, and nothing continues it."""


def state_key(task_id: str, path: IntArray) -> bytes:
    """What two states have in common in which the same question is asked: the task, and every token before it."""
    return hashlib.sha256(task_id.encode(errors="surrogatepass") + b"\0" + path.astype(np.int64).tobytes()).digest()


def path_to(tree: Tree, segment: int) -> IntArray:
    """[L] all tokens up to the end of a segment."""
    return np.concatenate([tree.segments[index].tokens for index in tree.path(segment)])


def with_answers(tree: Tree, answers: Sequence[tuple[int, IntArray]], policy: Policy) -> Tree:
    """The tree with answers beside the turns that were played: (the segment that they follow, their tokens)."""
    added = [
        Segment(
            Source.POLICY,
            tokens,
            parent,
            text=policy.decode(tokens),
            outcome=ANSWERED,
            rollout_id=f"{tree.id}#{number}",
        )
        for number, (parent, tokens) in enumerate(answers)
    ]
    return Tree.build(tree.id, tree.task_id, [*tree.segments, *added])


def is_answer(segment: Segment) -> bool:
    """Whether an expert gave it as its answer, rather than playing it, and nobody drew it."""
    return segment.source is Source.POLICY and segment.sampling is None and segment.outcome == ANSWERED


class Aggregate:
    """Trees in the order in which they were added, each cut down to the expert's answers and the paths to them.

    What it holds is a function of its own tensors, so that a resumed run finds the very same: of turns that the policy
    drew, which carry no loss here, log-probabilities are not kept.

    Args:
        policy: whose tokens they are.
        sampling: what its turns were drawn with.
    """

    def __init__(self, policy: Policy, sampling: Sampling) -> None:
        self._policy = policy
        self._sampling = sampling
        self._trees: list[Tree] = []
        self._answers: dict[bytes, IntArray] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._trees)

    def __getitem__(self, index: int) -> Tree:
        return self._trees[index]

    @property
    def answers(self) -> Mapping[bytes, IntArray]:
        """The tokens of every answer, by `state_key`; a state that was visited again was not asked about again."""
        return self._answers

    @property
    def size(self) -> int:
        """How many answers its trees hold: every visit of a state counts."""
        return self._size

    def add(self, tree: Tree) -> None:
        """Keep the answers of a tree; without one nothing is kept."""
        kept = sorted({s for leaf in tree.leaves if is_answer(tree.segments[leaf]) for s in tree.path(leaf)})
        if not kept:
            return
        moved = {old: new for new, old in enumerate(kept)}
        segments = [replace(tree.segments[old], parent=moved.get(tree.segments[old].parent, -1)) for old in kept]
        self._keep(tree.id, tree.task_id, [self._plain(segment, is_answer(segment)) for segment in segments])

    def state(self) -> tuple[dict[str, torch.Tensor], list[list[str]]]:
        """(tensors, JSON-able): the segments of all trees end to end, and the trees' names."""
        segments = [segment for tree in self._trees for segment in tree.segments]
        tensors = {
            "trees": np.array([len(tree.segments) for tree in self._trees], np.int64),
            "lengths": np.array([len(segment) for segment in segments], np.int64),
            "parents": np.array([segment.parent for segment in segments], np.int64),
            "sources": np.array([int(segment.source) for segment in segments], np.int64),
            "answers": np.array([is_answer(segment) for segment in segments], np.int64),
            "tokens": np.concatenate([np.empty(0, np.int64), *(segment.tokens for segment in segments)]),
        }
        names = [[tree.id, tree.task_id] for tree in self._trees]
        return {name: torch.from_numpy(array) for name, array in tensors.items()}, names

    def load_state(self, tensors: Mapping[str, torch.Tensor], names: Sequence[Sequence[str]]) -> None:
        """Hold what `state` gave, and nothing else."""
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
        tokens = np.split(arrays["tokens"], np.cumsum(arrays["lengths"])[:-1]) if len(arrays["lengths"]) else []
        rows = list(zip(arrays["sources"].tolist(), tokens, arrays["parents"].tolist(), arrays["answers"], strict=True))
        self._trees, self._answers, self._size = [], {}, 0
        done = 0
        for (tree_id, task_id), count in zip(names, arrays["trees"].tolist(), strict=True):
            own = rows[done : done + count]
            done += count
            segments = [self._plain(Segment(Source(s), ids, parent), bool(answer)) for s, ids, parent, answer in own]
            self._keep(tree_id, task_id, segments)

    def _plain(self, segment: Segment, answer: bool) -> Segment:
        """What is kept of a segment."""
        drawn = segment.source is Source.POLICY and not answer
        return Segment(
            segment.source,
            segment.tokens,
            segment.parent,
            text=self._policy.decode(segment.tokens),
            sampling=self._sampling if drawn else None,
            outcome=ANSWERED if answer else None,
        )

    def _keep(self, tree_id: str, task_id: str, segments: Sequence[Segment]) -> None:
        tree = Tree(tree_id, task_id, tuple(segments))
        self._trees.append(tree)
        for segment in tree.segments:
            if is_answer(segment):
                self._size += 1
                self._answers[state_key(task_id, path_to(tree, segment.parent))] = segment.tokens
