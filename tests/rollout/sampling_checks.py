"""What every sampled tree has to satisfy, and short ways to sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from laurel.policy import Policy, pack
from laurel.rollout import Job, Limits, LocalSampler
from laurel.tasks import Task
from laurel.tree import Sampling, Tree

ALPHABET = "abcdefgh12: "


def jobs(prompts: Sequence[str], samples: int) -> list[Job]:
    return [Job(f"tree{i}", Task(f"task{i}", prompt), samples) for i, prompt in enumerate(prompts)]


def same_draws(first: Sequence[Tree], second: Sequence[Tree]) -> None:
    """Equal trees; log-probabilities up to the rounding of matrix products of other sizes."""
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert (one.id, one.task_id, len(one.segments)) == (other.id, other.task_id, len(other.segments))
        for a, b in zip(one.segments, other.segments, strict=True):
            assert a.tokens.tolist() == b.tokens.tolist()
            assert (a.source, a.parent, a.text, a.reward) == (b.source, b.parent, b.text, b.reward)
            assert (a.outcome, a.rollout_id, a.policy_version) == (b.outcome, b.rollout_id, b.policy_version)
            if a.sampler_log_probs is not None:
                assert b.sampler_log_probs is not None
                assert np.abs(a.sampler_log_probs - b.sampler_log_probs).max() < 1e-5
            assert (a.support is None) == (b.support is None)
            if a.support is not None and b.support is not None:
                assert a.support.ids.tolist() == b.support.ids.tolist()


def score_difference(policy: Policy, trees: Sequence[Tree]) -> float:
    """The greatest difference between what the sampler and the learner say of a drawn token."""
    masks = [tree.flat.policy for tree in trees]
    with torch.no_grad():
        scored = policy.token_scores(pack(trees, masks)).log_probs.numpy()
    drawn = np.concatenate([tree.flat.sampler_log_probs[mask] for tree, mask in zip(trees, masks, strict=True)])
    assert len(drawn) > 0
    return float(np.abs(scored - drawn).max())


def collect(
    policy: Policy,
    asked: Sequence[Job],
    *,
    max_new_tokens: int = 24,
    sampling: Sampling | None = None,
    rows: int = 64,
    seed: int = 0,
    static: bool | None = None,
    **limits: object,
) -> list[Tree]:
    bounds = Limits(max_new_tokens=max_new_tokens, **limits)  # type: ignore[arg-type]
    sampler = LocalSampler(policy, sampling or Sampling(), bounds, max_live_rows=rows, seed=seed, static=static)
    return sampler.collect(asked, policy_version=7)
