"""Trees laid out in one row of tokens, as the model sees them: no padding, each distinct token once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from laurel.errors import PolicyError
from laurel.policy.log_probs import KeptIds, Rows
from laurel.tree import BoolArray, FloatArray, IntArray, Tree


@dataclass(frozen=True)
class TreeLayout:
    """Where the segments of some trees stand in one row of T tokens; what attention needs to know, and no more.

    The descendants of segment s are exactly the tokens `ends[s]:subtree_ends[s]`.

    Attributes:
        starts, ends, subtree_ends: [S] flat token indices, depth first, tree after tree.
        longest_path: tokens on the longest path from a root to a leaf.
    """

    starts: IntArray
    ends: IntArray
    subtree_ends: IntArray
    longest_path: int

    @property
    def tokens(self) -> int:
        """T, the number of tokens in the row."""
        return int(self.ends[-1])

    @property
    def trees(self) -> tuple[slice, ...]:
        """The place of each tree in the row."""
        places = []
        end = 0
        for start, below in zip(self.starts.tolist(), self.subtree_ends.tolist(), strict=True):
            if start == end:
                places.append(slice(start, below))
                end = below
        return tuple(places)


@dataclass(frozen=True)
class Packed:
    """Some trees in one row of T tokens, N of which are to be scored.

    Attributes:
        tokens, positions: [T] id and depth on the path.
        layout: the segments' places.
        row_predictors: [R] the distinct parents of scored tokens, whose hidden states predict them; siblings share the
            last token of their prompt.
        rows: how the scored tokens are read from the R rows of logits.
        row_of: [N] the row of each scored token.
        rank: [N] place of each scored token in the order of `rows`.
    """

    tokens: Tensor
    positions: Tensor
    layout: TreeLayout
    row_predictors: Tensor
    rows: Rows
    row_of: Tensor
    rank: Tensor


def pack(trees: Sequence[Tree], masks: Sequence[BoolArray], device: torch.device | str = "cpu") -> Packed:
    """Lay trees out one after the other.

    Args:
        trees: at least one.
        masks: for each tree, [T] which tokens of `tree.flat` to score.
        device: where the tensors go.

    Raises:
        PolicyError: if a first token (which nothing predicts) is to be scored, a mask has the wrong length, or a
            drawn token is missing from its own recorded support.
    """
    if not trees:
        raise PolicyError("There is no tree to pack.", hint="skip the step when no rollout is left.")
    flats = [tree.flat for tree in trees]
    for tree, mask in zip(trees, masks, strict=True):
        if len(mask) != len(tree.flat):
            raise PolicyError(f"Tree {tree.id}: a mask of {len(mask)} for {len(tree.flat)} tokens.")
        if (mask & (tree.flat.parent < 0)).any():
            raise PolicyError(f"Tree {tree.id}: its first token has no predecessor, so nothing predicts it.")
    shifts = np.cumsum([0, *(len(flat) for flat in flats)])[:-1]
    tokens = np.concatenate([flat.tokens for flat in flats])
    positions = np.concatenate([flat.position for flat in flats])
    layout = TreeLayout(
        starts=_shifted([flat.starts for flat in flats], shifts),
        ends=_shifted([flat.ends for flat in flats], shifts),
        subtree_ends=_shifted([flat.subtree_ends for flat in flats], shifts),
        longest_path=int(positions.max()) + 1,
    )
    scored = np.flatnonzero(np.concatenate(list(masks)))
    predictors = _shifted([flat.parent for flat in flats], shifts)[scored]
    temperatures = np.concatenate([_temperatures(tree) for tree in trees])[scored]
    support = _support(trees, masks, tokens[scored])
    return _assemble(tokens, positions, layout, scored, predictors, temperatures, support, torch.device(device))


def _shifted(parts: Sequence[IntArray], shifts: IntArray) -> IntArray:
    return np.concatenate([part + shift for part, shift in zip(parts, shifts, strict=True)])


def _temperatures(tree: Tree) -> FloatArray:
    """[T] the temperature behind each token."""
    by_segment = [1.0 if s.sampling is None else s.sampling.temperature for s in tree.segments]
    return np.asarray(by_segment)[tree.flat.segment]


def _support(trees: Sequence[Tree], masks: Sequence[BoolArray], targets: IntArray) -> tuple[IntArray, IntArray] | None:
    """Kept ids of the scored tokens and their offsets [N + 1]; None when nothing was truncated."""
    if all(segment.support is None for tree in trees for segment in tree.segments):
        return None
    ids: list[IntArray] = []
    counts: list[int] = []
    for tree, mask in zip(trees, masks, strict=True):
        flat = tree.flat
        for index in np.flatnonzero(mask):
            kept = tree.segments[flat.segment[index]].support
            within = index - flat.starts[flat.segment[index]]
            row = np.empty(0, np.int64) if kept is None else kept.ids[kept.offsets[within] : kept.offsets[within + 1]]
            if len(row) and targets[len(counts)] not in row:
                raise PolicyError(
                    f"Tree {tree.id}: token {index} was drawn although it is not in its recorded support.",
                    hint="record the kept ids of the distribution that drew the token.",
                )
            ids.append(row)
            counts.append(len(row))
    return np.concatenate(ids) if ids else np.empty(0, np.int64), np.cumsum([0, *counts])


def _assemble(
    tokens: IntArray,
    positions: IntArray,
    layout: TreeLayout,
    scored: IntArray,
    predictors: IntArray,
    temperatures: FloatArray,
    support: tuple[IntArray, IntArray] | None,
    device: torch.device,
) -> Packed:
    """Find the distinct rows of logits and move everything to the device.

    Tokens share a row when predictor and temperature agree; a truncated token keeps a row of its own, because two
    draws at one place may have been truncated under different weights.
    """
    truncated = np.diff(support[1]) > 0 if support is not None else np.zeros(len(scored), np.bool_)
    own = np.where(truncated, np.arange(1, len(scored) + 1), 0)
    order = np.lexsort((own, temperatures, predictors))
    keys = np.stack([predictors[order], temperatures[order], own[order]])
    new = np.ones(len(order), np.bool_)
    new[1:] = (keys[:, 1:] != keys[:, :-1]).any(0)
    firsts = order[new]
    row = np.cumsum(new) - 1
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    kept = None
    if support is not None:
        lengths = np.diff(support[1])[firsts]
        ids = [support[0][support[1][n] : support[1][n + 1]] for n in firsts]
        kept = KeptIds(torch.as_tensor(np.concatenate(ids), device=device), np.cumsum([0, *lengths]))
    return Packed(
        tokens=torch.as_tensor(tokens, device=device),
        positions=torch.as_tensor(positions, device=device),
        layout=layout,
        row_predictors=torch.as_tensor(predictors[firsts], device=device),
        rows=Rows(
            temperatures=torch.as_tensor(temperatures[firsts], dtype=torch.float32, device=device),
            row=torch.as_tensor(row, device=device),
            token=torch.as_tensor(tokens[scored[order]], device=device),
            offsets=np.append(np.flatnonzero(new), len(order)),
            kept=kept,
        ),
        row_of=torch.as_tensor(row[rank], device=device),
        rank=torch.as_tensor(rank, device=device),
    )
