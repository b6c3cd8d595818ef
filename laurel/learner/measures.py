"""What is measured beside the loss: the credit, the age of the tokens, and how far sampler and learner are apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from laurel.algorithms import Credit
from laurel.errors import LearnerError
from laurel.learner.batching import Microbatch, TokenTable, rollout_of_tokens
from laurel.learner.tally import Tally
from laurel.metrics import GREATEST, Metric
from laurel.objectives import k3
from laurel.tree import Float32Array, FloatArray


def advantage_metrics(credits: Sequence[Credit]) -> dict[str, Metric]:
    """Mean and standard deviation of the advantages of all tokens that carry loss, whatever their weight."""
    values = np.concatenate([np.empty(0), *(credit.advantages[credit.mask] for credit in credits)])
    if len(values) == 0:
        return {}
    return {
        "advantage": Metric(float(values.sum()), float(len(values))),
        "advantage_std": Metric(float(values.std()), 1.0),
    }


def age_metrics(policy_versions: FloatArray, version: int) -> dict[str, Metric]:
    """How many optimiser steps ago tokens were drawn, over those that somebody drew (NaN: nobody did)."""
    lag = version - policy_versions[~np.isnan(policy_versions)]
    if len(lag) == 0:
        return {}
    return {
        "policy_version_lag": Metric(float(lag.sum()), float(len(lag))),
        GREATEST + "policy_version_lag": Metric(float(lag.max()), 1.0),
    }


def check_age(batches: Sequence[Microbatch], table: TokenTable, version: int, method: str) -> None:
    """Refuse tokens that other weights drew; demonstrations, which nobody drew, have no age.

    Args:
        version: of the present weights.
        method: what is called so takes its experience for its own.

    Raises:
        LearnerError: naming the rollout.
    """
    for piece in (piece for batch in batches for piece in batch.pieces):
        versions = table.policy_versions[piece.scored]
        stale = ~np.isnan(versions) & (versions != version)
        if stale.any():
            first = int(np.argmax(stale))
            leaf = int(rollout_of_tokens(piece.tree)[np.flatnonzero(piece.mask)[first]])
            raise LearnerError(
                f"Rollout {piece.tree.rollouts[leaf].id} was drawn by the weights of version "
                f"{int(versions[first])}, but the learner is at version {version}, and "
                f"'{method}' takes its experience for its own.",
                hint="draw fresh rollouts before every update (policy_version=learner.version), or give the "
                "method a sampler_correction, or take credit that corrects for the age: "
                "ppo(values='vtrace'), or laurel.credit.VTrace.",
            )


def tally_reference(tally: Tally, log_probs: torch.Tensor, reference_log_probs: torch.Tensor) -> None:
    """`kl/reference` = r - 1 - log r, r = ref / policy: unbiased for KL(policy, reference), in nats per token.

    Args:
        log_probs, reference_log_probs: [N] of tokens that the policy drew, before this update changed it.
    """
    tally.mean("kl/reference", k3(log_probs, reference_log_probs))


def tally_sampler(tally: Tally, log_probs: torch.Tensor, sampler_log_probs: Float32Array) -> None:
    """The distance between who drew the tokens and who learns from them, over those that have a sampler.

        sampler_difference = |log_prob - sampler_log_prob|           its mean and its greatest value
        kl_sampler         = r - 1 - log r,  r = policy / sampler    unbiased for KL(sampler, policy), in nats per token

    Args:
        log_probs: [N] under the policy before this update changed it, without gradient.
        sampler_log_probs: [N] on the CPU, NaN for demonstrations.
    """
    known = np.flatnonzero(~np.isnan(sampler_log_probs))
    if len(known) == 0:
        return
    drawn = torch.from_numpy(sampler_log_probs[known]).to(log_probs.device, log_probs.dtype)
    log_ratio = log_probs[torch.from_numpy(known).to(log_probs.device)] - drawn
    tally.mean("sampler_difference", log_ratio.abs())
    tally.greatest("sampler_difference", log_ratio.abs())
    tally.mean("kl_sampler", torch.expm1(log_ratio) - log_ratio)
