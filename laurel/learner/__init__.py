"""Learning: experience with its credit becomes changes of the weights."""

from laurel.learner.learner import Learner, UpdateReport
from laurel.learner.optimiser import Optimiser, OptimiserSettings
from laurel.learner.schedule import Schedule, schedule_factor

__all__ = ["Learner", "Optimiser", "OptimiserSettings", "Schedule", "UpdateReport", "schedule_factor"]
