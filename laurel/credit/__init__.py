"""Credit: pure functions from graded trees to per-token advantages. numpy only."""

from laurel.credit.accepted import Accepted
from laurel.credit.anchor_states import AnchorStates, Baseline, DialogueState
from laurel.credit.continuations import (
    MonteCarloValues,
    Place,
    continuation_name,
    continued,
    cut,
    is_continuation,
)
from laurel.credit.credit import Credit, CreditRule
from laurel.credit.critic import CriticRule, GeneralisedAdvantage, TurnAdvantage
from laurel.credit.fans import branch_advantages, rollout_shares, segment_values
from laurel.credit.groups import leave_one_out, sibling_mean, standardised
from laurel.credit.hindsight import redistributed
from laurel.credit.off_policy import OffPolicyRule, Retrace, VTrace
from laurel.credit.preferred import Preferred, Thumbs
from laurel.credit.process import ProcessScores
from laurel.credit.retrace import retrace
from laurel.credit.returns import OverlongPenalty, Returns, TotalReward, policy_lengths
from laurel.credit.rules import (
    EveryToken,
    GivenAnswers,
    GreedyBaseline,
    LeaveOneOut,
    RewardToGo,
    SiblingMean,
    Standardised,
    StepStandardised,
    WholeReturn,
)
from laurel.credit.shaping import with_scores, with_token_rewards
from laurel.credit.standardise import standardise_step
from laurel.credit.step_labels import Estimate, labelled_steps, monte_carlo_labels, step_places, steps_of
from laurel.credit.temporal import Differences, temporal_differences
from laurel.credit.turns import turn_targets

__all__ = [
    "Accepted",
    "AnchorStates",
    "Baseline",
    "Credit",
    "CreditRule",
    "CriticRule",
    "DialogueState",
    "Differences",
    "Estimate",
    "EveryToken",
    "GeneralisedAdvantage",
    "GivenAnswers",
    "GreedyBaseline",
    "LeaveOneOut",
    "MonteCarloValues",
    "OffPolicyRule",
    "OverlongPenalty",
    "Place",
    "Preferred",
    "ProcessScores",
    "Retrace",
    "Returns",
    "RewardToGo",
    "SiblingMean",
    "Standardised",
    "StepStandardised",
    "Thumbs",
    "TotalReward",
    "TurnAdvantage",
    "VTrace",
    "WholeReturn",
    "branch_advantages",
    "continuation_name",
    "continued",
    "cut",
    "is_continuation",
    "labelled_steps",
    "leave_one_out",
    "monte_carlo_labels",
    "policy_lengths",
    "redistributed",
    "retrace",
    "rollout_shares",
    "segment_values",
    "sibling_mean",
    "standardise_step",
    "standardised",
    "step_places",
    "steps_of",
    "temporal_differences",
    "turn_targets",
    "with_scores",
    "with_token_rewards",
]
