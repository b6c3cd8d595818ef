"""The oracle: worlds small enough to list, and the exact bias and variance of any algorithm in them."""

from laurel.theory.audit import (
    Audit,
    GradientDistribution,
    audit,
    compare,
    gradient_distribution,
)
from laurel.theory.branches import with_continuations
from laurel.theory.constrained import penalised, regularised_gradient, token_divergences
from laurel.theory.designs import Experience, forking, groups
from laurel.theory.evaluation import (
    batch_monte_carlo,
    batch_temporal_difference,
    converges,
    followed_values,
    linear_td_matrix,
    path_episode,
)
from laurel.theory.exact import (
    expected_return,
    history_values,
    kl_divergence,
    optimal_path_probs,
    path_log_probs,
    path_returns,
    path_values,
    return_gradient,
    score_function_gradient,
    soft_bellman_policy,
)
from laurel.theory.examples import example_dialogue, example_logits, example_world
from laurel.theory.imitation import (
    best_discriminator,
    chain_cost,
    chain_world,
    log_log_slope,
    taught_everywhere,
    taught_on_path,
)
from laurel.theory.inverse import maximum_entropy_weights, occupancy
from laurel.theory.preferences import (
    bradley_terry,
    fitted_rewards,
    population_loss,
    preference_optimum,
    regularised_value,
    thurstone,
    tilted,
    total_variation,
)
from laurel.theory.random_trees import random_tree
from laurel.theory.states import token_histories, token_log_ratios, token_values
from laurel.theory.steps import one_step_per_token, with_step_values
from laurel.theory.without_labels import judged_by_coin, judged_by_siblings, probability_change, vote_chances
from laurel.theory.world import Path, Reply, World, group_tree, path_segments, single_turn

__all__ = [
    "Audit",
    "Experience",
    "GradientDistribution",
    "Path",
    "Reply",
    "World",
    "audit",
    "batch_monte_carlo",
    "batch_temporal_difference",
    "best_discriminator",
    "bradley_terry",
    "chain_cost",
    "chain_world",
    "compare",
    "converges",
    "example_dialogue",
    "example_logits",
    "example_world",
    "expected_return",
    "fitted_rewards",
    "followed_values",
    "forking",
    "gradient_distribution",
    "group_tree",
    "groups",
    "history_values",
    "judged_by_coin",
    "judged_by_siblings",
    "kl_divergence",
    "linear_td_matrix",
    "log_log_slope",
    "maximum_entropy_weights",
    "occupancy",
    "one_step_per_token",
    "optimal_path_probs",
    "path_episode",
    "path_log_probs",
    "path_returns",
    "path_segments",
    "path_values",
    "penalised",
    "population_loss",
    "preference_optimum",
    "probability_change",
    "random_tree",
    "regularised_gradient",
    "regularised_value",
    "return_gradient",
    "score_function_gradient",
    "single_turn",
    "soft_bellman_policy",
    "taught_everywhere",
    "taught_on_path",
    "thurstone",
    "tilted",
    "token_divergences",
    "token_histories",
    "token_log_ratios",
    "token_values",
    "total_variation",
    "vote_chances",
    "with_continuations",
    "with_step_values",
]
