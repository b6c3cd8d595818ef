"""Learning: experience with its credit becomes changes of the weights."""

from laurel.learner.labelled_reward import LabelledReward
from laurel.learner.learner import Learner, UpdateReport
from laurel.learner.optimiser import Optimiser, OptimiserSettings
from laurel.learner.recovery import RecoveryLearner, RecoverySettings
from laurel.learner.reward_members import EnsembleSettings
from laurel.learner.reward_models import RewardLearner, RewardReport, reported
from laurel.learner.rollouts import Judged
from laurel.learner.schedule import Schedule, schedule_factor
from laurel.learner.values import CriticLearner, CriticSettings, explained_variance, value_loss

__all__ = [
    "CriticLearner",
    "CriticSettings",
    "EnsembleSettings",
    "Judged",
    "LabelledReward",
    "Learner",
    "Optimiser",
    "OptimiserSettings",
    "RecoveryLearner",
    "RecoverySettings",
    "RewardLearner",
    "RewardReport",
    "Schedule",
    "UpdateReport",
    "explained_variance",
    "reported",
    "schedule_factor",
    "value_loss",
]
