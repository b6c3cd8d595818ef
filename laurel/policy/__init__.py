"""A policy: a model with its tokenizer, packed log-probabilities, snapshots, adapters and export."""

from laurel.policy.attention import AttentionPlan, LayerCall
from laurel.policy.certainty import Certainty, CertaintyReader, negative_entropy, self_certainty
from laurel.policy.critic import Critic, critic_for
from laurel.policy.hindsight_reward import HindsightReward
from laurel.policy.judged_reward import JudgedReward, is_judged_by, judges_in
from laurel.policy.learned_reward import LearnedReward
from laurel.policy.load import load
from laurel.policy.lora import LoraSettings
from laurel.policy.packed import Packed, TreeLayout, pack
from laurel.policy.pair_judge import Comparison, PairJudge
from laurel.policy.policy import Policy, Reference, TokenScores
from laurel.policy.process_reward import ImplicitProcessReward, ProcessReward, step_scorers_in
from laurel.policy.read_rollouts import RolloutReader
from laurel.policy.reading import check_reading
from laurel.policy.reward_ensemble import RewardEnsemble, disagreement, mean_rewards, pessimistic
from laurel.policy.reward_files import check_exportable, export_reward_model, load_reward_model
from laurel.policy.reward_model import RewardModel, answer_ends, reward_model_for
from laurel.policy.rubric import Rubric, RubricJudge
from laurel.policy.saved_process_reward import SavedProcessReward
from laurel.policy.saved_reward import (
    SavedReward,
    as_reward,
    asks_start,
    export_reward_models,
    reward_for,
    reward_models_in,
)
from laurel.policy.self_judged import SelfJudged
from laurel.policy.shaped_reward import ShapedRewardModel, export_recovered, load_recovered
from laurel.policy.soft_q_reward import SoftQ, SoftQReward, soft_q
from laurel.policy.step_judge import StepJudge
from laurel.policy.tiny import tiny
from laurel.policy.tree_attention import TreeAttention

__all__ = [
    "AttentionPlan",
    "Certainty",
    "CertaintyReader",
    "Comparison",
    "Critic",
    "HindsightReward",
    "ImplicitProcessReward",
    "JudgedReward",
    "LayerCall",
    "LearnedReward",
    "LoraSettings",
    "Packed",
    "PairJudge",
    "Policy",
    "ProcessReward",
    "Reference",
    "RewardEnsemble",
    "RewardModel",
    "RolloutReader",
    "Rubric",
    "RubricJudge",
    "SavedProcessReward",
    "SavedReward",
    "SelfJudged",
    "ShapedRewardModel",
    "SoftQ",
    "SoftQReward",
    "StepJudge",
    "TokenScores",
    "TreeAttention",
    "TreeLayout",
    "answer_ends",
    "as_reward",
    "asks_start",
    "check_exportable",
    "check_reading",
    "critic_for",
    "disagreement",
    "export_recovered",
    "export_reward_model",
    "export_reward_models",
    "is_judged_by",
    "judges_in",
    "load",
    "load_recovered",
    "load_reward_model",
    "mean_rewards",
    "negative_entropy",
    "pack",
    "pessimistic",
    "reward_for",
    "reward_model_for",
    "reward_models_in",
    "self_certainty",
    "soft_q",
    "step_scorers_in",
    "tiny",
]
