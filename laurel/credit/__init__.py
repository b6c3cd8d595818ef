"""Credit: pure functions from graded trees to per-token advantages. numpy only."""

from laurel.credit.credit import Credit, CreditRule
from laurel.credit.fans import branch_advantages, rollout_shares, segment_values
from laurel.credit.groups import leave_one_out, sibling_mean, standardised
from laurel.credit.returns import OverlongPenalty, Returns, TotalReward, policy_lengths
from laurel.credit.rules import EveryToken, LeaveOneOut, SiblingMean, Standardised, WholeReturn

__all__ = [
    "Credit",
    "CreditRule",
    "EveryToken",
    "LeaveOneOut",
    "OverlongPenalty",
    "Returns",
    "SiblingMean",
    "Standardised",
    "TotalReward",
    "WholeReturn",
    "branch_advantages",
    "leave_one_out",
    "policy_lengths",
    "rollout_shares",
    "segment_values",
    "sibling_mean",
    "standardised",
]
