"""A small policy, and the gradient of one optimiser step on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from learner_trees import VOCABULARY

from laurel.algorithms import Algorithm, Credit
from laurel.learner import Learner, OptimiserSettings, UpdateReport
from laurel.policy import Policy, tiny
from laurel.tree import Tree


def policy(dtype: torch.dtype = torch.float64, seed: int = 0) -> Policy:
    made = tiny(alphabet="abcdefghij", hidden_size=16, layers=2, heads=2, context_length=64, seed=seed)
    assert made.vocabulary_size == VOCABULARY
    made.model.to(dtype)
    if dtype is torch.float64:
        _norms_in_full_precision(made.model)
    return made


def _norms_in_full_precision(model: torch.nn.Module) -> None:
    """Stock norms compute in float32 whatever the model's type is, which would hide differences under 1e-8."""
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if type(module).__name__.endswith("RMSNorm"):
                norm = torch.nn.RMSNorm(module.weight.shape, eps=module.variance_epsilon, dtype=torch.float64)
                norm.weight = module.weight
                setattr(parent, name, norm)


@dataclass(frozen=True)
class Taken:
    """The gradient of one optimiser step, read back from plain gradient descent's stand-in: AdamW's first moment."""

    gradient: torch.Tensor
    report: UpdateReport
    loss: float


def take(
    trees: Sequence[Tree],
    algorithm: Algorithm,
    *,
    dtype: torch.dtype = torch.float64,
    budget: int = 10_000,
    credits: Sequence[Credit] | None = None,
) -> Taken:
    """One update of a fresh policy. After one step the first moment is (1 - beta) times the gradient: beta = 0."""
    made = policy(dtype)
    reference = policy(dtype, seed=1).snapshot("other") if algorithm.needs_reference else None
    settings = OptimiserSettings(learning_rate=1e-3, betas=(0.0, 0.9), maximum_gradient_norm=None)
    learner = Learner(made, algorithm, settings, reference=reference, tokens_per_microbatch=budget)
    report = learner.update(trees, credits if credits is not None else algorithm.credit(trees), step=1)
    moments = learner.state()[0]
    gradient = torch.cat([moments[f"first_moment.{name}"].flatten() for name in made.trainable_parameters()])
    return Taken(gradient, report, report.metrics["loss"].mean)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())
