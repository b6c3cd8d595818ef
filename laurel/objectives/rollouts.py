"""Whole rollouts, as objectives see them that compare one answer with another: one number per rollout.

An objective sees all rollouts of a tree together; the weight of every prompt is fixed for the whole optimiser step, so
no split into micro-batches can change the gradient.

    prompt 0 -+- rollout 0 (advantage +0.5)       pairs: (0, 1)
              +- rollout 1 (advantage -0.5)
    prompt 1 -+- rollout 2 (advantage +1)         pairs: (2, 3), (2, 4), (3, 4)
              +- rollout 3 (advantage  0)
              +- rollout 4 (advantage -1)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, Protocol, TypeGuard

import torch

from laurel.errors import ConfigurationError
from laurel.objectives.batch import TokenLoss


@dataclass(frozen=True)
class RolloutBatch:
    """The rollouts of some whole trees, R of them below Q prompts. Tensors are [R], numbers in float64.

    Attributes:
        log_probs: log pi(rollout), the sum over its scored tokens, with gradient.
        lengths: how many tokens that is; shared ones count for every rollout through them.
        advantages: the credit of the rollout; the greater of two is the better answer.
        prompts: which prompt each is below, in 0 ... Q - 1.
        prompt_count: Q.
        reference_log_probs: log ref(rollout) over the same tokens, or what the policy said before the update, where an
            objective compares with that (`against_old`); None where nothing asks for it.
        constant: what `StepConstant.constant` said of the whole step; None where nothing asks for it.
    """

    log_probs: torch.Tensor
    lengths: torch.Tensor
    advantages: torch.Tensor
    prompts: torch.Tensor
    prompt_count: int
    reference_log_probs: torch.Tensor | None = None
    constant: torch.Tensor | None = None

    @property
    def log_ratios(self) -> torch.Tensor:
        """log pi(rollout) - log ref(rollout), [R].

        Raises:
            ConfigurationError: there is no reference.
        """
        if self.reference_log_probs is None:
            raise ConfigurationError(
                "This objective compares the policy with a reference, and there is none.",
                hint="pass reference=policy.snapshot('start') to the learner.",
            )
        return self.log_probs - self.reference_log_probs

    @cached_property
    def pairs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(better, worse): the indices of all pairs below one prompt whose advantages differ, [P] each."""
        return ordered_pairs(self.advantages, self.prompts)

    def prompt_means(self, values: torch.Tensor, rollouts: torch.Tensor, *, nothing: float = 0.0) -> torch.Tensor:
        """The mean of some values for each prompt, [Q].

        Args:
            values: [P].
            rollouts: [P] a rollout below the prompt that each value belongs to.
            nothing: what a prompt without any value gets.
        """
        return means_of_prompts(values, self.prompts[rollouts], self.prompt_count, nothing=nothing)


def ordered_pairs(scores: torch.Tensor, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(better, worse): the indices of all pairs below one prompt whose scores differ, [P] each.

    Args:
        scores: [R].
        prompts: [R] which prompt each is below.
    """
    better = scores[:, None] > scores[None, :]
    winners, losers = (better & (prompts[:, None] == prompts[None, :])).nonzero(as_tuple=True)
    return winners, losers


def means_of_prompts(values: torch.Tensor, prompts: torch.Tensor, count: int, *, nothing: float = 0.0) -> torch.Tensor:
    """The mean of the values [P] that belong to each of `count` prompts; `nothing` where there are none."""
    zeros = torch.zeros(count, dtype=values.dtype, device=values.device)
    sums, counts = zeros.index_add(0, prompts, values), zeros.index_add(0, prompts, torch.ones_like(values))
    return torch.where(counts > 0, sums / counts.clamp(min=1), torch.full_like(zeros, nothing))


class RolloutLoss(Protocol):
    """One loss per prompt [Q] to be minimised, and diagnostics as values per prompt [Q]; NaN: nothing to say."""

    whole_rollouts: ClassVar[Literal[True]]

    def __call__(self, batch: RolloutBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]: ...


class ImplicitReward(Protocol):
    """A rollout loss that takes something for the reward of a rollout, and compares that."""

    def rewards(self, batch: RolloutBatch) -> torch.Tensor:
        """[R] what the method takes for the reward of each rollout."""
        ...


class StepConstant(Protocol):
    """A rollout loss that first needs one number of the whole optimiser step, without gradient.

    It is made from the rollouts whose advantage is 0, under the policy before the step; they carry no loss.
    """

    def constant(self, batch: RolloutBatch) -> torch.Tensor:
        """The number, a scalar; `batch` holds the rollouts of the whole optimiser step that carry no loss."""
        ...


def reads_rollouts(objective: TokenLoss | RolloutLoss) -> TypeGuard[RolloutLoss]:
    """Whether an objective is over whole rollouts; the others are over tokens."""
    return getattr(objective, "whole_rollouts", False)


def needs_constant(objective: object) -> TypeGuard[StepConstant]:
    """Whether an objective asks for a number of the whole step."""
    return hasattr(objective, "constant")
