"""Named methods, each a short function that returns an `Algorithm`."""

from laurel.algorithms.algorithm import (
    Algorithm,
    Credit,
    CreditRule,
    Demonstrated,
    Reduction,
    Sampled,
    Step,
    TokenBatch,
    TokenLoss,
)
from laurel.algorithms.methods import clone, dapo, dr_grpo, grpo, reinforce, rloo
from laurel.algorithms.registry import METHODS, named, settings

__all__ = [
    "METHODS",
    "Algorithm",
    "Credit",
    "CreditRule",
    "Demonstrated",
    "Reduction",
    "Sampled",
    "Step",
    "TokenBatch",
    "TokenLoss",
    "clone",
    "dapo",
    "dr_grpo",
    "grpo",
    "named",
    "reinforce",
    "rloo",
    "settings",
]
