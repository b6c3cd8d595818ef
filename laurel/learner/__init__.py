"""Learning: experience with its credit becomes changes of the weights."""

from laurel.learner.learner import TOKENS_PER_MICROBATCH, UNCUT_TOKENS, Learner, UpdateReport
from laurel.learner.optimiser import Optimiser, OptimiserSettings
from laurel.learner.schedule import Schedule, schedule_factor

__all__ = [
    "TOKENS_PER_MICROBATCH",
    "UNCUT_TOKENS",
    "Learner",
    "Optimiser",
    "OptimiserSettings",
    "Schedule",
    "UpdateReport",
    "schedule_factor",
]
