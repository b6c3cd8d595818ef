"""Named methods, each a short function that returns an `Algorithm`."""

from laurel.algorithms.algorithm import (
    Algorithm,
    Asked,
    Compared,
    Credit,
    CreditRule,
    Demonstrated,
    Reduction,
    RolloutBatch,
    RolloutLoss,
    Sampled,
    Step,
    TokenBatch,
    TokenLoss,
    TrustRegion,
)
from laurel.algorithms.branching import Branching
from laurel.algorithms.constraints import KL
from laurel.algorithms.critic_methods import ppo, turn_ppo
from laurel.algorithms.gigpo import gigpo
from laurel.algorithms.imitation_methods import dagger, distill
from laurel.algorithms.inverse_methods import airl, gail, iq_learn, max_ent_irl
from laurel.algorithms.methods import clone, dapo, dr_grpo, grpo, reinforce, remax, rloo
from laurel.algorithms.preference_methods import dpo, ipo, kto, online_dpo, orpo, simpo, spin
from laurel.algorithms.ratio_methods import cispo, gspo, reinforce_plus_plus
from laurel.algorithms.registry import METHODS
from laurel.algorithms.star import star
from laurel.algorithms.step_ppo import step_ppo
from laurel.algorithms.trust_region import trpo
from laurel.algorithms.vine_ppo import vine_ppo

__all__ = [
    "KL",
    "METHODS",
    "Algorithm",
    "Asked",
    "Branching",
    "Compared",
    "Credit",
    "CreditRule",
    "Demonstrated",
    "Reduction",
    "RolloutBatch",
    "RolloutLoss",
    "Sampled",
    "Step",
    "TokenBatch",
    "TokenLoss",
    "TrustRegion",
    "airl",
    "cispo",
    "clone",
    "dagger",
    "dapo",
    "distill",
    "dpo",
    "dr_grpo",
    "gail",
    "gigpo",
    "grpo",
    "gspo",
    "ipo",
    "iq_learn",
    "kto",
    "max_ent_irl",
    "online_dpo",
    "orpo",
    "ppo",
    "reinforce",
    "reinforce_plus_plus",
    "remax",
    "rloo",
    "simpo",
    "spin",
    "star",
    "step_ppo",
    "trpo",
    "turn_ppo",
    "vine_ppo",
]
