"""From trees to micro-batches: what is computed, what is scored, and what goes together into one forward pass.

Weights are decided before any of this (`Algorithm.reduction` over all trees of an optimiser step), and every scored
token is scored in exactly one piece. So the sum of the micro-batches' losses is the loss, however they are cut.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from laurel.algorithms import Credit
from laurel.errors import LearnerError
from laurel.tree import BoolArray, Float32Array, FloatArray, IntArray, Tree


@dataclass(frozen=True)
class TokenTable:
    """What is known of every token of a step, all trees end to end in their given order; A tokens.

    Attributes:
        offsets: [number of trees + 1] where each tree starts.
        advantages: [A] the credit.
        sampler_log_probs: [A] NaN where there is none.
        policy_versions: [A] the optimiser steps behind the weights that drew it; NaN where nobody drew it.
        rollouts: [A] number of the rollout that it belongs to, counted over the step; for a token that several
            share, the first of them that did not fail.
    """

    offsets: IntArray
    advantages: FloatArray
    sampler_log_probs: Float32Array
    policy_versions: FloatArray
    rollouts: IntArray

    @classmethod
    def of(cls, trees: Sequence[Tree], credits: Sequence[Credit]) -> TokenTable:
        """Lay the trees end to end.

        Raises:
            LearnerError: if a credit does not fit its tree, puts loss on a token that the policy did not write, or is
                not finite there.
        """
        if len(trees) != len(credits):
            raise LearnerError(f"{len(trees)} trees but {len(credits)} credits.", hint="credit every tree of the step.")
        for tree, credit in zip(trees, credits, strict=True):
            _check_credit(tree, credit)
        leaves = np.cumsum([0, *(len(tree.leaves) for tree in trees)])
        versions = (
            [np.nan if segment.policy_version is None else float(segment.policy_version) for segment in tree.segments]
            for tree in trees
        )
        return cls(
            offsets=np.cumsum([0, *(len(tree.flat) for tree in trees)]),
            advantages=_joined((credit.advantages for credit in credits), np.float64),
            sampler_log_probs=_joined((tree.flat.sampler_log_probs for tree in trees), np.float32),
            policy_versions=_joined(
                (np.array(v)[tree.flat.segment] for v, tree in zip(versions, trees, strict=True)), np.float64
            ),
            rollouts=_joined(
                (first + rollout_of_tokens(tree) for first, tree in zip(leaves, trees, strict=False)), np.int64
            ),
        )


@dataclass(frozen=True)
class Piece:
    """A tree, or the part of one above some of its leaves, as it is computed.

    Attributes:
        tree: without the segments that no scored token depends on.
        mask: [its tokens] which are scored in this piece.
        scored: [N] where the scored tokens stand in the step's `TokenTable`, in the order of the layout.
    """

    tree: Tree
    mask: BoolArray
    scored: IntArray


@dataclass(frozen=True)
class Microbatch:
    """Pieces that share one forward and backward pass.

    Attributes:
        cut: whether it is a part of one tree whose rollouts are compared with those of its other parts.
    """

    pieces: tuple[Piece, ...]
    cut: bool = False

    @property
    def scored(self) -> IntArray:
        """[N] places of the scored tokens in the step's `TokenTable`, in the order that `pack` scores them."""
        return np.concatenate([piece.scored for piece in self.pieces])

    @property
    def computed_tokens(self) -> int:
        """Distinct tokens in the forward pass."""
        return sum(len(piece.mask) for piece in self.pieces)

    @property
    def rollout_ids(self) -> list[str]:
        """Names of the rollouts in it, for error messages."""
        return list(dict.fromkeys(rollout.id for piece in self.pieces for rollout in piece.tree.rollouts))


def rollout_of_tokens(tree: Tree) -> IntArray:
    """[T] the leaf (its place in `tree.leaves`) that each token belongs to: the first below it that did not fail."""
    place = {leaf: index for index, leaf in enumerate(tree.leaves)}
    best = [(True, len(place))] * len(tree.segments)
    for index in range(len(tree.segments) - 1, -1, -1):
        segment = tree.segments[index]
        if index in place:
            best[index] = (segment.outcome is not None and segment.outcome.failed, place[index])
        if segment.parent >= 0:
            best[segment.parent] = min(best[segment.parent], best[index])
    return np.array([leaf for _, leaf in best])[tree.flat.segment]


def pieces(tree: Tree, mask: BoolArray, offset: int, token_budget: int) -> list[Piece]:
    """Cut a tree into pieces of at most `token_budget` tokens each (one path may be longer).

    Segments above no scored token are left out: they change nothing. A tree within the budget is one piece; a larger
    one is cut between its leaves, every piece repeats what its leaves share with earlier ones, and a shared scored
    token is scored in the first piece that holds it: where the rest of its rollout is too.

    Args:
        mask: [T] the tokens to score.
        offset: where the tree starts in the step's `TokenTable`.
    """
    flat = tree.flat
    before = np.concatenate([[0], np.cumsum(mask)])
    needed = before[flat.subtree_ends] > before[flat.starts]
    parents = {tree.segments[index].parent for index in np.flatnonzero(needed)}
    leaves = [int(index) for index in np.flatnonzero(needed) if index not in parents]
    lengths = flat.ends - flat.starts
    groups: list[set[int]] = []
    size = 0
    for leaf in leaves:
        path = set(tree.path(leaf))
        added = int(lengths[list(path - groups[-1])].sum()) if groups else 0
        if not groups or size + added > token_budget:
            groups.append(path)
            size = int(lengths[list(path)].sum())
        else:
            groups[-1] |= path
            size += added
    seen: set[int] = set()
    result = []
    for group in groups:
        result.append(_piece(tree, mask, sorted(group), seen, offset))
        seen |= group
    return result


def microbatches(parts: Iterable[Piece], token_budget: int) -> list[Microbatch]:
    """Put pieces together, in their order, into micro-batches of at most `token_budget` tokens."""
    batches: list[list[Piece]] = []
    size = 0
    for piece in parts:
        if not batches or size + len(piece.mask) > token_budget:
            batches.append([])
            size = 0
        batches[-1].append(piece)
        size += len(piece.mask)
    return [Microbatch(tuple(batch)) for batch in batches]


def fullest_microbatches(parts: Iterable[Piece], token_budget: int) -> list[Microbatch]:
    """As `microbatches`, in as few as best fit finds: longest first, each into the fullest that still has room.

    A gradient does not know the order of its terms; what is read piece by piece does, and takes `microbatches`.
    """
    batches: list[list[Piece]] = []
    room: list[tuple[int, int]] = []  # tokens left and place of each, sorted
    for piece in sorted(parts, key=lambda piece: -len(piece.mask)):
        fitting = bisect_left(room, (len(piece.mask), 0))
        left, place = room.pop(fitting) if fitting < len(room) else (token_budget, len(batches))
        if place == len(batches):
            batches.append([])
        batches[place].append(piece)
        insort(room, (left - len(piece.mask), place))
    return [Microbatch(tuple(batch)) for batch in batches]


def whole_trees(trees: Iterable[Tree], token_budget: int) -> list[Microbatch]:
    """Micro-batches of whole trees whose hidden states are read; no token of theirs is predicted."""
    unread = (Piece(tree, np.zeros(len(tree.flat), np.bool_), np.empty(0, np.int64)) for tree in trees)
    return microbatches(unread, token_budget)


def shuffled_minibatches(trees: int, epochs: int, minibatches: int, key: Sequence[int]) -> Iterator[list[int]]:
    """The trees of every optimiser step; whole trees, shuffled by (key, epoch) where there are several.

    Args:
        trees: how many there are.
        key: with the number of the epoch it fixes the order.
    """
    for epoch in range(epochs):
        order = np.random.default_rng([*key, epoch]).permutation(trees)
        for chosen in np.array_split(order, minibatches):
            yield sorted(int(index) for index in chosen)


def _piece(tree: Tree, mask: BoolArray, kept: list[int], seen: set[int], offset: int) -> Piece:
    flat = tree.flat
    places = np.concatenate([np.arange(flat.starts[index], flat.ends[index]) for index in kept])
    fresh = np.array([index not in seen for index in range(len(tree.segments))])
    scored = mask[places] & fresh[flat.segment[places]]
    if len(kept) < len(tree.segments):
        number = {old: new for new, old in enumerate(kept)}
        segments = (replace(tree.segments[old], parent=number.get(tree.segments[old].parent, -1)) for old in kept)
        tree = replace(tree, segments=tuple(segments))
    return Piece(tree, scored, offset + places[scored])


def _check_credit(tree: Tree, credit: Credit) -> None:
    flat = tree.flat
    if credit.mask.shape != (len(flat),) or credit.advantages.shape != (len(flat),):
        raise LearnerError(
            f"Tree {tree.id} has {len(flat)} tokens, its credit {len(credit.mask)} and {len(credit.advantages)}.",
            hint="credit is aligned with tree.flat.",
        )
    if np.any(credit.mask & ~flat.policy):
        raise LearnerError(
            f"Tree {tree.id}: the credit puts loss on a token that the policy did not write.",
            hint="only POLICY tokens can carry loss; mend the credit rule's mask.",
        )
    bad = credit.mask & ~np.isfinite(credit.advantages)
    if bad.any():
        leaves = sorted(set(rollout_of_tokens(tree)[bad]))
        names = ", ".join(tree.rollouts[leaf].id for leaf in leaves)
        raise LearnerError(f"Advantages are not finite in rollout {names}.", hint="mend the credit rule or the reward.")


def _joined(parts: Iterable[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype, copy=False)
