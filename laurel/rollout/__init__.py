"""Sampling: trees of experience drawn from a policy."""

from laurel.rollout.answering import Answering
from laurel.rollout.draws import rollout_key, torch_uniforms, uniforms
from laurel.rollout.experts import FunctionExpert, PolicyExpert
from laurel.rollout.limits import Job, Limits
from laurel.rollout.respondent import Respondent
from laurel.rollout.sampler import LocalSampler
from laurel.rollout.substitute import Due, Substitute, Taken
from laurel.rollout.uncertainty import drawn_entropies

__all__ = [
    "Answering",
    "Due",
    "FunctionExpert",
    "Job",
    "Limits",
    "LocalSampler",
    "PolicyExpert",
    "Respondent",
    "Substitute",
    "Taken",
    "drawn_entropies",
    "rollout_key",
    "torch_uniforms",
    "uniforms",
]
