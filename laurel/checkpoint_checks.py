"""What training and fitting do alike with checkpoints: only sound weights go in, and only what fits comes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from laurel.errors import LearnerError
from laurel.policy import Policy
from laurel.policy.fingerprint import check_frozen
from laurel.runs import Checkpoint, Run


def check_finite(step: int, tensors: Mapping[str, torch.Tensor], owner: str) -> None:
    """Refuse weights that are no numbers; a checkpoint of such weights would only look like a result.

    Args:
        owner: whose they are, for the message.

    Raises:
        LearnerError: naming the first of them.
    """
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise LearnerError(
                f"After step {step} '{name}' of {owner} is not finite; no checkpoint was written.",
                hint="resume from the last checkpoint with a smaller learning rate.",
            )


def save_checkpoint(
    run: Run,
    policy: Policy,
    step: int,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    state: Mapping[str, Any],
) -> None:
    """`run.save_checkpoint`, with the fingerprint of what an adapter stands on, for `newest_checkpoint` to compare."""
    frozen = {} if policy.frozen is None else {"frozen": policy.frozen}
    run.save_checkpoint(step, tensors, {**state, **frozen})


def newest_checkpoint(run: Run, policy: Policy) -> Checkpoint | None:
    """The newest whole checkpoint of a run, if there is one.

    Raises:
        PolicyError: it keeps an adapter that was trained on another model than the policy's.
    """
    checkpoint = run.load_checkpoint()
    if checkpoint is not None:
        recorded = {**policy.description, "frozen": checkpoint.state.get("frozen", policy.frozen)}
        check_frozen(recorded, policy.description, f"The checkpoint of step {checkpoint.step}")
    return checkpoint
