"""The policy that a run trained, built again from what the run recorded."""

from __future__ import annotations

from pathlib import Path

from laurel.errors import RunError
from laurel.policy import Policy
from laurel.recipe import component, policies
from laurel.runs import Run


def policy_of_run(directory: Path) -> Policy:
    """The policy of a run with the weights of its newest whole checkpoint.

    Raises:
        RunError: if the run has no checkpoint yet, or was started from a model in memory that cannot be built again.
    """
    with Run.open(directory) as run:
        origin = run.configuration["policy"]
        checkpoint = run.load_checkpoint()
    if checkpoint is None:
        raise RunError(f"The run {directory} has no checkpoint yet.", hint="resume it, or wait for its first one.")
    if not isinstance(origin, dict) or origin.get("name") not in policies():
        raise RunError(
            f"The run {directory} was started from a model in memory ({origin}), which cannot be built again.",
            hint="call policy.export(directory) in the program that started it.",
        )
    policy = component("policy", policies(), origin)
    assert isinstance(policy, Policy)
    policy.load_tensors(checkpoint.tensors["policy"])
    return policy
