"""How a row of trees falls into dense blocks that a stock attention kernel computes.

Two ways to cut a tree, and the cheaper one is taken for each:

- *Blocks.* Each segment attends causally to itself, and all descendants of an inner segment, which are one contiguous
  range, attend to the whole of it. Nothing is computed twice: right for a long prompt under many answers.

      prompt | answer 1 | answer 2      own blocks: causal; answers of equal length are one batch
      <--------- both ---------->       inner block: both answers attend to all of the prompt, in one call

- *Rows.* Each path from the root to a leaf is a causal row of its own, and rows of similar length are one batch, padded
  at the end, where nothing looks. A token that lies on several paths is owned by the first; elsewhere it only serves as
  a key. Right for short prompts and ragged answers, where starting a kernel costs more than the work in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from laurel.policy.packed import TreeLayout
from laurel.tree import IntArray

CALL_COST = 250
"""What starting one more kernel costs, in pairs of tokens (measured on the CPU with 4 heads of 64)."""


@dataclass(frozen=True)
class OwnBlock:
    """`count` neighbouring segments of one length, from token `start` on, each attending causally to itself."""

    start: int
    count: int
    length: int

    def of(self, tensor: Tensor) -> Tensor:
        """[T, H, D] to the view [count, H, length, D]."""
        part = tensor[self.start : self.start + self.count * self.length]
        return part.view(self.count, self.length, *part.shape[1:]).transpose(1, 2)


@dataclass(frozen=True)
class InnerBlock:
    """The tokens `first:end`, all descendants of the segment `start:stop` or its last token, attend to all of it."""

    start: int
    stop: int
    first: int
    end: int

    def queries(self, tensor: Tensor) -> Tensor:
        """[T, H, D] to the view [1, H, queries, D]."""
        return tensor[self.first : self.end].transpose(0, 1).unsqueeze(0)

    def keys(self, tensor: Tensor) -> Tensor:
        """[T, H, D] to the view [1, H, segment, D]."""
        return tensor[self.start : self.stop].transpose(0, 1).unsqueeze(0)


@dataclass(frozen=True)
class PathRows:
    """`count` paths, each padded to `length` tokens with its own last one.

    Attributes:
        read: [count * length] the token at each place.
        own: places whose token this path owns; `token`: those tokens.
        other: all other places: padding, and ancestors that an earlier path owns.
    """

    count: int
    length: int
    read: Tensor
    own: Tensor
    token: Tensor
    other: Tensor

    def of(self, tensor: Tensor) -> Tensor:
        """[T, H, D] to a copy [count, H, length, D]."""
        return self.batched(tensor.index_select(0, self.read))

    def batched(self, places: Tensor) -> Tensor:
        """[count * length, H, D] to the view [count, H, length, D]."""
        return places.view(self.count, self.length, *places.shape[1:]).transpose(1, 2)

    def places(self, batched: Tensor) -> Tensor:
        """[count, H, length, D] to [count * length, H, D]."""
        return batched.transpose(1, 2).reshape(self.count * self.length, batched.shape[1], -1)


@dataclass(frozen=True)
class Blocks:
    """Together they cover each pair of a token and its ancestor once, the `other` places of rows aside.

    Attributes:
        own: of segments.
        last: the last tokens of segments of which nothing else is wanted, in place of those segments' own blocks.
        inner: of descendants.
        rows: of whole paths.
    """

    own: tuple[OwnBlock, ...]
    last: tuple[InnerBlock, ...]
    inner: tuple[InnerBlock, ...]
    rows: tuple[PathRows, ...]

    @classmethod
    def of(cls, layout: TreeLayout, device: torch.device, wanted: IntArray | None = None) -> Blocks:
        """The cheaper way to cut each tree.

        Args:
            layout: of the row.
            device: of the tensors to come.
            wanted: the tokens whose output is read, in order; None: all.
        """
        own: list[OwnBlock] = []
        last: list[InnerBlock] = []
        inner: list[InnerBlock] = []
        paths: list[_Path] = []
        for tree in _trees(layout):
            tree_last = _last_blocks(tree, wanted)
            replaced = {block.start for block in tree_last}
            tree_own = _own_blocks([segment for segment in tree if segment[0] not in replaced])
            tree_inner, tree_paths = _inner_blocks(tree), _paths(tree)
            pairs = sum(b.count * b.length**2 / 2 for b in tree_own)
            pairs += sum((b.end - b.first) * (b.stop - b.start) for b in tree_inner)
            pairs += CALL_COST * (len(tree_own) + len(tree_last) + len(tree_inner))
            if sum(_padded(path.length) ** 2 / 2 for path in tree_paths) <= pairs:
                paths += tree_paths
            else:
                own += tree_own
                last += tree_last
                inner += tree_inner
        return cls(tuple(own), tuple(last), tuple(inner), _batches(paths, device))


_Segment = tuple[int, int, int]
"""Start, end, end of the subtree."""


@dataclass(frozen=True)
class _Path:
    """The segments from a root to a leaf, `length` tokens; those from place `shared` on are on no earlier path."""

    segments: tuple[_Segment, ...]
    length: int
    shared: int


def _trees(layout: TreeLayout) -> list[list[_Segment]]:
    """The segments of each tree; one with a single child is one with it, so where a segment was cut changes nothing."""
    trees: list[list[_Segment]] = []
    stop = 0
    for start, end, below in zip(
        layout.starts.tolist(), layout.ends.tolist(), layout.subtree_ends.tolist(), strict=True
    ):
        if start == stop:
            trees.append([])
            stop = below
        elif trees[-1][-1][1:] == (start, below):
            trees[-1][-1] = (trees[-1][-1][0], end, below)
            continue
        trees[-1].append((start, end, below))
    return trees


def _own_blocks(tree: list[_Segment]) -> list[OwnBlock]:
    own: list[OwnBlock] = []
    for start, end, _ in tree:
        before = own[-1] if own else None
        if before and before.length == end - start and before.start + before.count * before.length == start:
            own[-1] = OwnBlock(own[-1].start, own[-1].count + 1, own[-1].length)
        else:
            own.append(OwnBlock(start, 1, end - start))
    return own


def _inner_blocks(tree: list[_Segment]) -> list[InnerBlock]:
    return [InnerBlock(start, end, end, below) for start, end, below in tree if end < below]


def _last_blocks(tree: list[_Segment], wanted: IntArray | None) -> list[InnerBlock]:
    """For segments of which at most the last of several tokens is wanted: prompts, mostly, in the last layer."""
    if wanted is None:
        return []
    asked = [np.searchsorted(wanted, [start, end - 1]) for start, end, _ in tree]
    return [
        InnerBlock(start, end, end - 1, end)
        for (start, end, _), (first, last) in zip(tree, asked, strict=True)
        if first == last and end - start > 1
    ]


def _paths(tree: list[_Segment]) -> list[_Path]:
    paths: list[_Path] = []
    open_segments: list[_Segment] = []
    depth = shared = 0
    for segment in tree:
        while open_segments and open_segments[-1][2] <= segment[0]:
            depth -= open_segments[-1][1] - open_segments[-1][0]
            open_segments.pop()
            shared = depth
        open_segments.append(segment)
        depth += segment[1] - segment[0]
        if segment[1] == segment[2]:
            paths.append(_Path(tuple(open_segments), depth, shared))
    return paths


def _padded(length: int) -> int:
    """The next multiple of 8, from 64 tokens on of an eighth to a quarter of the length."""
    step = max(8, (1 << length.bit_length()) // 8)
    return -(-length // step) * step


def _batches(paths: list[_Path], device: torch.device) -> tuple[PathRows, ...]:
    by_length: dict[int, list[_Path]] = {}
    for path in paths:
        by_length.setdefault(_padded(path.length), []).append(path)
    batches = []
    for bucket in by_length.values():
        length = max(path.length for path in bucket)
        read = np.empty((len(bucket), length), np.int64)
        for row, path in zip(read, bucket, strict=True):
            place = 0
            for start, end, _ in path.segments:
                row[place : place + end - start] = np.arange(start, end)
                place += end - start
            row[place:] = end - 1
        place_in_row = np.arange(length)
        shared, lengths = np.array([(path.shared, path.length) for path in bucket]).T[..., None]
        owned = ((place_in_row >= shared) & (place_in_row < lengths)).ravel()
        arrays = (read.ravel(), np.flatnonzero(owned), read.ravel()[owned], np.flatnonzero(~owned))
        batches.append(PathRows(len(bucket), length, *(torch.from_numpy(array).to(device) for array in arrays)))
    return tuple(batches)
