"""Objectives: pure functions from scored tokens to per-token losses, and the weights that average them."""

from laurel.objectives.batch import TokenBatch, TokenLoss
from laurel.objectives.clipped import ClippedRatio, clipped
from laurel.objectives.policy_gradient import (
    NegativeLogLikelihood,
    PolicyGradient,
    negative_log_likelihood,
    policy_gradient,
)
from laurel.objectives.reductions import ConstantLength, PromptMean, Reduction, SequenceMean, TokenMean
from laurel.objectives.regularisers import EntropyBonus, KLPenalty, k1, k2, k3
from laurel.objectives.sequence_ratio import SequenceRatio, sequence_log_ratio
from laurel.objectives.weighted import SamplerCorrection, WeightedPolicyGradient, capped_weight

__all__ = [
    "ClippedRatio",
    "ConstantLength",
    "EntropyBonus",
    "KLPenalty",
    "NegativeLogLikelihood",
    "PolicyGradient",
    "PromptMean",
    "Reduction",
    "SamplerCorrection",
    "SequenceMean",
    "SequenceRatio",
    "TokenBatch",
    "TokenLoss",
    "TokenMean",
    "WeightedPolicyGradient",
    "capped_weight",
    "clipped",
    "k1",
    "k2",
    "k3",
    "negative_log_likelihood",
    "policy_gradient",
    "sequence_log_ratio",
]
