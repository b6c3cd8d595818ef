"""How undecided the policy was when it drew each token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from laurel.policy import Policy, pack
from laurel.tree import BoolArray, FloatArray, Source, Tree

# Trees are put together up to so many tokens in one forward pass; a larger one goes through alone.
TOKENS_AT_ONCE = 8192


@torch.no_grad()
def drawn_entropies(policy: Policy, trees: Sequence[Tree], *, tokens_at_once: int = TOKENS_AT_ONCE) -> list[FloatArray]:
    """H(s_t) = -sum_v p(v|s_t) log p(v|s_t) in nats, p what drew the token after s_t; [T] per tree, NaN elsewhere.

    p has the temperature and the truncation that the token was drawn with. The policy must be the one that drew: the
    entropies are computed afterwards, in one forward pass over the distinct tokens, so sampling costs nothing more
    where nobody asks for them.

    Args:
        policy: whose weights have not changed since.
        trees: as they were sampled; tokens that nobody drew (demonstrations) have no entropy.
        tokens_at_once: most tokens in one forward pass of several trees.
    """
    entropies = [np.full(len(tree.flat), np.nan) for tree in trees]
    for group in _groups(trees, tokens_at_once):
        masks = [_drawn(trees[index]) for index in group]
        if not any(mask.any() for mask in masks):
            continue
        packed = pack([trees[index] for index in group], masks, policy.device)
        measured = policy.token_scores(packed).entropy.double().cpu().numpy()
        by_tree = np.split(measured, np.cumsum([mask.sum() for mask in masks])[:-1])
        for index, mask, own in zip(group, masks, by_tree, strict=True):
            entropies[index][mask] = own
    return entropies


def _drawn(tree: Tree) -> BoolArray:
    drawn = np.array([s.source is Source.POLICY and s.sampling is not None for s in tree.segments])
    by_token: BoolArray = drawn[tree.flat.segment]
    return by_token


def _groups(trees: Sequence[Tree], most: int) -> Iterator[list[int]]:
    group: list[int] = []
    size = 0
    for index, tree in enumerate(trees):
        if group and size + len(tree.flat) > most:
            yield group
            group, size = [], 0
        group.append(index)
        size += len(tree.flat)
    if group:
        yield group
