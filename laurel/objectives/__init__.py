"""Objectives: pure functions from scored tokens to per-token losses, and the weights that average them."""

from collections.abc import Callable

from laurel.objectives.batch import TokenBatch, TokenLoss
from laurel.objectives.clipped import ClippedRatio, clipped
from laurel.objectives.control import Constraint, Control, DualAscent, Proportional
from laurel.objectives.distillation import Distillation, Divergence
from laurel.objectives.penalties import Budget, KLReward, Penalty
from laurel.objectives.policy_gradient import (
    NegativeLogLikelihood,
    PolicyGradient,
    negative_log_likelihood,
    policy_gradient,
)
from laurel.objectives.preference_losses import (
    dpo_loss,
    ipo_loss,
    kto_loss,
    mismatched_divergence,
    odds_ratio_loss,
    robust_dpo_loss,
    simpo_loss,
)
from laurel.objectives.preferences import (
    Desirability,
    DirectPreference,
    IdentityPreference,
    OddsRatio,
    SimplePreference,
)
from laurel.objectives.recovery import Contrast, Discriminator, MaximumEntropy, RewardForm, ShapedDiscriminator
from laurel.objectives.reductions import (
    ConstantLength,
    DistinctTokenMean,
    PromptMean,
    Reduction,
    SequenceMean,
    TokenMean,
)
from laurel.objectives.regularisers import EntropyBonus, KLPenalty, k1, k2, k3
from laurel.objectives.reward_losses import (
    binary_loss,
    bradley_terry_loss,
    davidson_loss,
    ordinal_loss,
    plackett_luce_loss,
    rising,
    step_label_loss,
)
from laurel.objectives.reward_models import (
    BetweenLevels,
    Binary,
    BradleyTerry,
    Ordinal,
    PlackettLuce,
    Predictions,
    RewardBatch,
    RewardObjective,
    StepLabels,
    reads_steps,
)
from laurel.objectives.rollouts import (
    ImplicitReward,
    RolloutBatch,
    RolloutLoss,
    StepConstant,
    needs_constant,
    reads_rollouts,
)
from laurel.objectives.sequence_ratio import SequenceRatio, sequence_log_ratio
from laurel.objectives.soft_q import InverseSoftQ, implied_rewards
from laurel.objectives.surrogate import Surrogate, surrogate
from laurel.objectives.weighted import (
    SamplerCorrection,
    WeightedObjective,
    WeightedPolicyGradient,
    capped_weight,
)

REWARD_OBJECTIVES: dict[str, Callable[..., RewardObjective]] = {
    "binary": Binary,
    "bradley_terry": BradleyTerry,
    "ordinal": Ordinal,
    "plackett_luce": PlackettLuce,
    "step_labels": StepLabels,
}
"""What a reward model is fitted by, as a recipe names it."""

__all__ = [
    "REWARD_OBJECTIVES",
    "BetweenLevels",
    "Binary",
    "BradleyTerry",
    "Budget",
    "ClippedRatio",
    "ConstantLength",
    "Constraint",
    "Contrast",
    "Control",
    "Desirability",
    "DirectPreference",
    "Discriminator",
    "Distillation",
    "DistinctTokenMean",
    "Divergence",
    "DualAscent",
    "EntropyBonus",
    "IdentityPreference",
    "ImplicitReward",
    "InverseSoftQ",
    "KLPenalty",
    "KLReward",
    "MaximumEntropy",
    "NegativeLogLikelihood",
    "OddsRatio",
    "Ordinal",
    "Penalty",
    "PlackettLuce",
    "PolicyGradient",
    "Predictions",
    "PromptMean",
    "Proportional",
    "Reduction",
    "RewardBatch",
    "RewardForm",
    "RewardObjective",
    "RolloutBatch",
    "RolloutLoss",
    "SamplerCorrection",
    "SequenceMean",
    "SequenceRatio",
    "ShapedDiscriminator",
    "SimplePreference",
    "StepConstant",
    "StepLabels",
    "Surrogate",
    "TokenBatch",
    "TokenLoss",
    "TokenMean",
    "WeightedObjective",
    "WeightedPolicyGradient",
    "binary_loss",
    "bradley_terry_loss",
    "capped_weight",
    "clipped",
    "davidson_loss",
    "dpo_loss",
    "implied_rewards",
    "ipo_loss",
    "k1",
    "k2",
    "k3",
    "kto_loss",
    "mismatched_divergence",
    "needs_constant",
    "negative_log_likelihood",
    "odds_ratio_loss",
    "ordinal_loss",
    "plackett_luce_loss",
    "policy_gradient",
    "reads_rollouts",
    "reads_steps",
    "rising",
    "robust_dpo_loss",
    "sequence_log_ratio",
    "simpo_loss",
    "step_label_loss",
    "surrogate",
]
