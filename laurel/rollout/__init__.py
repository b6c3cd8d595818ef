"""Sampling: trees of experience drawn from a policy."""

from laurel.rollout.answering import Answering
from laurel.rollout.draws import rollout_key, torch_uniforms, uniforms
from laurel.rollout.limits import Job, Limits
from laurel.rollout.sampler import LocalSampler

__all__ = ["Answering", "Job", "Limits", "LocalSampler", "rollout_key", "torch_uniforms", "uniforms"]
