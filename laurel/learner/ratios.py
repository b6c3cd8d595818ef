"""How far the policy has moved since its experience was drawn: log-ratios for credit that corrects for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from laurel.errors import LearnerError
from laurel.learner.batching import microbatches, pieces
from laurel.learner.constraints import drawn_tokens
from laurel.policy import Policy, pack
from laurel.tree import BoolArray, FloatArray, Tree


def sampler_log_ratios(policy: Policy, trees: Sequence[Tree], *, together: int, uncut: int) -> list[FloatArray]:
    """log pi(a_t|s_t) - log mu(a_t|s_t), pi the policy as it is, mu what drew the token; [T] per tree, NaN elsewhere.

    Both are of the distribution that was drawn from, with its temperature and truncation: for a policy that has not
    moved all are 0.

    Args:
        together, uncut: most tokens in one forward pass, and in one tree before it is cut.

    Raises:
        LearnerError: if a policy token of a rollout that did not fail has no sampler log-probability; names the tree.
    """
    masks = [drawn_tokens(tree) for tree in trees]
    for tree, drawn in zip(trees, masks, strict=True):
        if np.isnan(tree.flat.sampler_log_probs[drawn]).any():
            raise LearnerError(
                f"Tree {tree.id}: nobody recorded how likely its tokens were when they were drawn.",
                hint="this credit weighs tokens by that: record sampler log-probs, or take another rule.",
            )
    scores = log_probs_now(policy, trees, masks, together=together, uncut=uncut)
    return [score - tree.flat.sampler_log_probs for score, tree in zip(scores, trees, strict=True)]


@torch.no_grad()
def log_probs_now(
    policy: Policy, trees: Sequence[Tree], masks: Sequence[BoolArray], *, together: int, uncut: int
) -> list[FloatArray]:
    """log pi(a_t|s_t) under the policy as it is, [T] per tree, NaN where its mask is false.

    Args:
        together, uncut: as above.
    """
    offsets = np.cumsum([0, *(len(tree.flat) for tree in trees)])
    now = np.full(int(offsets[-1]), np.nan)
    parts = []
    for tree, mask, offset in zip(trees, masks, offsets.tolist(), strict=False):
        parts += pieces(tree, mask, offset, uncut)
    for batch in microbatches(parts, together):
        packed = pack([piece.tree for piece in batch.pieces], [piece.mask for piece in batch.pieces], policy.device)
        now[batch.scored] = policy.token_scores(packed, entropy=False).log_probs.double().cpu().numpy()
    return list(np.split(now, offsets[1:-1]))
