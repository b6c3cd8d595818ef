"""A policy: a model with its tokenizer, packed log-probabilities, snapshots, adapters and export."""

from laurel.policy.attention import AttentionPlan, LayerCall
from laurel.policy.load import load
from laurel.policy.lora import LoraSettings
from laurel.policy.packed import Packed, TreeLayout, pack
from laurel.policy.policy import Policy, Reference, TokenScores
from laurel.policy.tiny import tiny
from laurel.policy.tree_attention import TreeAttention

__all__ = [
    "AttentionPlan",
    "LayerCall",
    "LoraSettings",
    "Packed",
    "Policy",
    "Reference",
    "TokenScores",
    "TreeAttention",
    "TreeLayout",
    "load",
    "pack",
    "tiny",
]
