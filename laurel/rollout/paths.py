"""Paths that begin alike, computed as one packed tree: what they share goes through the model once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from laurel.policy import TreeLayout
from laurel.policy.attention import LayerCall
from laurel.policy.tree_attention import TreeAttention
from laurel.rollout.cache import PrefixBlock
from laurel.rollout.plans import padded_blocks
from laurel.tree import IntArray, Tree


@dataclass(frozen=True)
class PathRow:
    """The segments that some paths go through, each once, depth first, tree after tree in one row of T tokens.

    Attributes:
        tokens, positions: [T] id and depth on the path.
        layout: where the segments stand.
        paths: for each path the places of its tokens in the row.
    """

    tokens: IntArray
    positions: IntArray
    layout: TreeLayout
    paths: Sequence[IntArray]


@dataclass(frozen=True)
class PathPlan:
    """Every token attends to itself and its ancestors; the keys and values of each path are kept in the blocks.

    Attributes:
        attention: over the packed row.
        blocks: paths of similar length each.
        padded: per block [N, P] place in the row of each token; past a path's end token 0, which nothing attends to.
    """

    attention: TreeAttention
    blocks: Sequence[PrefixBlock]
    padded: Sequence[torch.Tensor]

    def attend(self, call: LayerCall) -> torch.Tensor:
        """See `AttentionPlan`: [1, T, H, Dv]; the keys and values of the call go to the blocks."""
        for block, padded in zip(self.blocks, self.padded, strict=True):
            block.keys[call.layer], block.values[call.layer] = (
                part[0][:, padded].transpose(0, 1).contiguous() for part in (call.key, call.value)
            )
        return self.attention.attend(call)


def path_row(paths: Sequence[tuple[Tree, int]]) -> PathRow:
    """Lay out the paths to the ends of these segments."""
    trees = {id(tree): tree for tree, _ in paths}
    kept: dict[int, set[int]] = {key: set() for key in trees}
    for tree, end in paths:
        kept[id(tree)].update(tree.path(end))
    place: dict[tuple[int, int], int] = {}  # of a tree's segment among all segments of the row
    tokens: list[IntArray] = []
    depths: list[int] = []
    parents: list[int] = []
    for key, tree in trees.items():
        for index in sorted(kept[key]):
            segment = tree.segments[index]
            parent = place.get((key, segment.parent), -1)
            depths.append(depths[parent] + len(tokens[parent]) if parent >= 0 else 0)
            parents.append(parent)
            place[key, index] = len(tokens)
            tokens.append(segment.tokens)
    lengths = np.array([len(part) for part in tokens])
    ends = np.cumsum(lengths)
    below = ends.copy()
    for index in range(len(parents) - 1, -1, -1):
        if parents[index] >= 0:
            below[parents[index]] = max(below[parents[index]], below[index])
    starts = ends - lengths
    spans = [np.arange(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    rows = [np.concatenate([spans[place[id(tree), index]] for index in tree.path(end)]) for tree, end in paths]
    positions = np.concatenate([np.arange(len(part)) + depth for part, depth in zip(tokens, depths, strict=True)])
    layout = TreeLayout(starts, ends, below, int(positions.max()) + 1)
    return PathRow(np.concatenate(tokens), positions, layout, rows)


def path_plan(row: PathRow, device: torch.device) -> tuple[PathPlan, list[tuple[int, int]]]:
    """A plan for such a row, and the (block, node) where each path is kept."""
    blocks, indices, homes = padded_blocks(row.paths)
    attention = TreeAttention(row.layout, torch.from_numpy(row.positions).to(device))
    return PathPlan(attention, blocks, [torch.from_numpy(index).to(device) for index in indices]), homes
