"""Rewards: functions of a task and an answer, and the grader that runs them with deadlines."""

from laurel.rewards.check import CheckReport, check_reward, try_reward
from laurel.rewards.grader import Grader, GradingSettings
from laurel.rewards.learning import LearningReward, learning
from laurel.rewards.numbers import Number, answer_in, numbers_in
from laurel.rewards.reward import Reward, gives_parts, in_process
from laurel.rewards.steps import Aggregation, StepScorer, aggregate, each_step, step_scores
from laurel.rewards.verifiers import exact_match, from_environment, math_answer, numeric_answer, reasoning_gym_answer
from laurel.rewards.weighted import weighted
from laurel.tree import Failed, Score

REWARDS: dict[str, Reward] = {
    "exact_match": exact_match,
    "from_environment": from_environment,
    "math_answer": math_answer,
    "numeric_answer": numeric_answer,
    "reasoning_gym_answer": reasoning_gym_answer,
    "step_scores": step_scores,
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
    "Number",
    "Reward",
    "Score",
    "StepScorer",
    "aggregate",
    "answer_in",
    "check_reward",
    "each_step",
    "exact_match",
    "from_environment",
    "gives_parts",
    "in_process",
    "learning",
    "math_answer",
    "numbers_in",
    "numeric_answer",
    "reasoning_gym_answer",
    "step_scores",
    "try_reward",
    "weighted",
]
