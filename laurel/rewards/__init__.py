"""Rewards: functions of a task and an answer, and the grader that runs them with deadlines."""

from laurel.rewards.agreement import Meaning, SiblingReward, majority_vote, semantic_entropy
from laurel.rewards.check import CheckReport, check_reward, try_reward
from laurel.rewards.control import random_reward
from laurel.rewards.grader import Grader, GradingSettings
from laurel.rewards.graders import grader
from laurel.rewards.learning import LearningReward, learning
from laurel.rewards.numbers import Number, answer_in, numbers_in
from laurel.rewards.programs import code
from laurel.rewards.proofs import metamath_proof
from laurel.rewards.reward import Reward, gives_parts, in_process, needs_siblings, reads_labels
from laurel.rewards.statements import formal_statement
from laurel.rewards.steps import Aggregation, StepScorer, aggregate, each_step, step_scores
from laurel.rewards.tool_calls import tool_call
from laurel.rewards.verifiers import exact_match, from_environment, math_answer, numeric_answer, reasoning_gym_answer
from laurel.rewards.weighted import weighted
from laurel.tree import Failed, Score

REWARDS: dict[str, Reward] = {
    "code": code,
    "exact_match": exact_match,
    "formal_statement": formal_statement,
    "from_environment": from_environment,
    "grader": grader,
    "majority_vote": majority_vote,
    "math_answer": math_answer,
    "metamath_proof": metamath_proof,
    "numeric_answer": numeric_answer,
    "random_reward": random_reward,
    "reasoning_gym_answer": reasoning_gym_answer,
    "semantic_entropy": semantic_entropy,
    "step_scores": step_scores,
    "tool_call": tool_call,
    "weighted": weighted,
}
"""The rewards that a recipe names; each value makes the reward from its settings."""

__all__ = [
    "REWARDS",
    "Aggregation",
    "CheckReport",
    "Failed",
    "Grader",
    "GradingSettings",
    "LearningReward",
    "Meaning",
    "Number",
    "Reward",
    "Score",
    "SiblingReward",
    "StepScorer",
    "aggregate",
    "answer_in",
    "check_reward",
    "code",
    "each_step",
    "exact_match",
    "formal_statement",
    "from_environment",
    "gives_parts",
    "grader",
    "in_process",
    "learning",
    "majority_vote",
    "math_answer",
    "metamath_proof",
    "needs_siblings",
    "numbers_in",
    "numeric_answer",
    "random_reward",
    "reads_labels",
    "reasoning_gym_answer",
    "semantic_entropy",
    "step_scores",
    "tool_call",
    "try_reward",
    "weighted",
]
