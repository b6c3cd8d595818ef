"""What a reward model is fitted by: one loss per prompt, from the rewards of its judged answers.

    name            loss                                   what the scores are                     own parameters
    BradleyTerry    `bradley_terry_loss`, `davidson_loss`  an order; every pair of answers counts  log nu, with ties
    PlackettLuce    `plackett_luce_loss`                   an order; the ranking counts as one     none
    Ordinal         `ordinal_loss`                         whole numbers from lowest to highest    cutpoints
    Binary          `binary_loss`                          0 (down) and 1 (up)                     the cutpoint
    StepLabels      `step_label_loss`                      labels of steps, from 0 to 1            none

Every prompt that teaches something counts the same, however many answers it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch

from laurel.errors import ConfigurationError, LearnerError
from laurel.objectives.reward_losses import (
    binary_loss,
    bradley_terry_loss,
    davidson_loss,
    ordinal_loss,
    plackett_luce_loss,
    rising,
    step_label_loss,
)
from laurel.objectives.rollouts import means_of_prompts, ordered_pairs


@dataclass(frozen=True)
class RewardBatch:
    """Judged answers, or labelled steps, R of them to Q prompts. Tensors are [R], numbers in float64.

    Attributes:
        rewards: what the model says, with gradient.
        scores: what whoever judged said.
        prompts: which prompt each answers, in 0 ... Q - 1.
        prompt_count: Q.
    """

    rewards: torch.Tensor
    scores: torch.Tensor
    prompts: torch.Tensor
    prompt_count: int


@dataclass(frozen=True)
class Predictions:
    """What a model expected of P judgements, without gradient.

    Attributes:
        confidence: [P] the probability that it gave to what it held most likely.
        correct: [P] 1 where that came true, 0 where not; a half where two were equally likely and one came true.
    """

    confidence: torch.Tensor
    correct: torch.Tensor


class BetweenLevels(LearnerError):
    """A score on the scale of an ordinal likelihood that is none of its levels: of one row, not of a whole set."""


class RewardObjective(Protocol):
    """A likelihood of judgements. `own` [E] are parameters that learn beside the model, from `start()`.

    One with an attribute `of_steps` that is true is about the steps of answers, see `reads_steps`.
    """

    def start(self) -> torch.Tensor:
        """[E] where `own` begins; E is 0 for an objective without parameters."""
        ...

    def teaches(self, scores: Sequence[float]) -> bool:
        """Whether the scores of the answers to one prompt say something.

        Raises:
            LearnerError: they are none that this objective can read.
        """
        ...

    def losses(self, batch: RewardBatch, own: torch.Tensor) -> torch.Tensor:
        """[Q] one loss per prompt; 0 for one that teaches nothing."""
        ...

    def predictions(self, batch: RewardBatch, own: torch.Tensor) -> Predictions:
        """How sure the model is of each judgement, and whether it agrees."""
        ...


@dataclass(frozen=True)
class BradleyTerry:
    """The mean of `bradley_terry_loss` over the pairs of answers to a prompt whose scores differ.

    Attributes:
        ties: pairs of equal scores are ties by `davidson_loss`, whose tie weight is fitted too; without it they say
            nothing. Predictions are about the pairs that are not tied, given that they are not.
    """

    ties: bool = False

    def start(self) -> torch.Tensor:
        """See `RewardObjective`."""
        return torch.zeros(int(self.ties), dtype=torch.float64)

    def teaches(self, scores: Sequence[float]) -> bool:
        """See `RewardObjective`."""
        return len(scores) > 1 and (self.ties or len(set(scores)) > 1)

    def losses(self, batch: RewardBatch, own: torch.Tensor) -> torch.Tensor:
        """See `RewardObjective`."""
        better, worse = ordered_pairs(batch.scores, batch.prompts)
        if not self.ties:
            values = bradley_terry_loss(batch.rewards[better], batch.rewards[worse])
        else:
            equal = (batch.scores[:, None] == batch.scores) & (batch.prompts[:, None] == batch.prompts)
            left, right = equal.triu(1).nonzero(as_tuple=True)
            tied = torch.arange(len(better) + len(left), device=left.device) >= len(better)
            better, worse = torch.cat([better, left]), torch.cat([worse, right])
            values = davidson_loss(batch.rewards[better], batch.rewards[worse], tied, own[0])
        return means_of_prompts(values, batch.prompts[better], batch.prompt_count)

    def predictions(self, batch: RewardBatch, own: torch.Tensor) -> Predictions:
        """See `RewardObjective`."""
        return _of_pairs(batch)


@dataclass(frozen=True)
class PlackettLuce:
    """The sum of `plackett_luce_loss` over the answers to a prompt: -log of the probability of their ranking.

    Predictions are about its pairs: by Luce's axiom each is a Bradley-Terry comparison.
    """

    def start(self) -> torch.Tensor:
        """See `RewardObjective`."""
        return torch.zeros(0, dtype=torch.float64)

    def teaches(self, scores: Sequence[float]) -> bool:
        """See `RewardObjective`."""
        return len(set(scores)) > 1

    def losses(self, batch: RewardBatch, own: torch.Tensor) -> torch.Tensor:
        """See `RewardObjective`."""
        values = plackett_luce_loss(batch.rewards, batch.scores, batch.prompts)
        return torch.zeros(batch.prompt_count, dtype=values.dtype, device=values.device).index_add(
            0, batch.prompts, values
        )

    def predictions(self, batch: RewardBatch, own: torch.Tensor) -> Predictions:
        """See `RewardObjective`."""
        return _of_pairs(batch)


@dataclass(frozen=True)
class Ordinal:
    """The mean of `ordinal_loss` over the answers to a prompt; its cutpoints are fitted too.

    Attributes:
        lowest, highest: the ratings, whole numbers.
    """

    lowest: int
    highest: int

    def __post_init__(self) -> None:
        if not self.lowest < self.highest:
            raise ConfigurationError(
                f"Ratings from {self.lowest} to {self.highest} tell nothing apart.", hint="such as lowest=1, highest=5."
            )

    def start(self) -> torch.Tensor:
        """Cutpoints one apart, around 0."""
        own = torch.zeros(self.highest - self.lowest, dtype=torch.float64)
        own[0] = -(self.highest - self.lowest - 1) / 2
        return own

    def teaches(self, scores: Sequence[float]) -> bool:
        """See `RewardObjective`."""
        wrong = [score for score in scores if not self.lowest <= score <= self.highest]
        if wrong:
            raise LearnerError(
                f"{wrong[0]} is no rating from {self.lowest} to {self.highest}.",
                hint="state lowest and highest as the data have them.",
            )
        between = [score for score in scores if score % 1]
        if between:
            raise BetweenLevels(
                f"{between[0]} lies between two ratings, which are whole numbers from {self.lowest} to {self.highest}.",
                hint="round it, leave the row out, or compare its answers by bradley_terry.",
            )
        return bool(scores)

    def losses(self, batch: RewardBatch, own: torch.Tensor) -> torch.Tensor:
        """See `RewardObjective`."""
        values = ordinal_loss(batch.rewards, self._levels(batch), rising(own))
        return means_of_prompts(values, batch.prompts, batch.prompt_count)

    def predictions(self, batch: RewardBatch, own: torch.Tensor) -> Predictions:
        """See `RewardObjective`."""
        cutpoints, levels = rising(own), torch.arange(len(own) + 1, device=own.device)
        each = [ordinal_loss(batch.rewards, level.expand(len(batch.rewards)), cutpoints) for level in levels]
        confidence, likeliest = torch.exp(-torch.stack(each, 1)).max(1)
        return Predictions(confidence, (likeliest == self._levels(batch)).double())

    def _levels(self, batch: RewardBatch) -> torch.Tensor:
        return (batch.scores - self.lowest).long()


@dataclass(frozen=True)
class Binary:
    """The mean of `binary_loss` over the answers to a prompt; its cutpoint is fitted too."""

    def start(self) -> torch.Tensor:
        """See `RewardObjective`."""
        return torch.zeros(1, dtype=torch.float64)

    def teaches(self, scores: Sequence[float]) -> bool:
        """See `RewardObjective`."""
        wrong = [score for score in scores if score not in (0, 1)]
        if wrong:
            raise LearnerError(f"{wrong[0]} is no thumb.", hint="1 is up, 0 is down; compare or rate the others.")
        return bool(scores)

    def losses(self, batch: RewardBatch, own: torch.Tensor) -> torch.Tensor:
        """See `RewardObjective`."""
        values = binary_loss(batch.rewards, batch.scores > 0, own[0])
        return means_of_prompts(values, batch.prompts, batch.prompt_count)

    def predictions(self, batch: RewardBatch, own: torch.Tensor) -> Predictions:
        """See `RewardObjective`."""
        leads = batch.rewards - own[0]
        return _of_leads(torch.where(batch.scores > 0, leads, -leads))


@dataclass(frozen=True)
class StepLabels:
    """The mean of `step_label_loss` over the labelled steps of a prompt: what a process reward model is fitted by.

    The model's reward at the end of a step is the log-odds that it is right. There is no cutpoint, so that the model
    alone says the probability. A prediction is "right" or "wrong"; under a label between them it is right in part.
    """

    of_steps: ClassVar[Literal[True]] = True

    def start(self) -> torch.Tensor:
        """See `RewardObjective`."""
        return torch.zeros(0, dtype=torch.float64)

    def teaches(self, scores: Sequence[float]) -> bool:
        """See `RewardObjective`."""
        wrong = [score for score in scores if not 0 <= score <= 1]
        if wrong:
            raise LearnerError(f"The label {wrong[0]} of a step is no probability.", hint="labels lie in [0, 1].")
        return bool(scores)

    def losses(self, batch: RewardBatch, own: torch.Tensor) -> torch.Tensor:
        """See `RewardObjective`."""
        values = step_label_loss(batch.rewards, batch.scores)
        return means_of_prompts(values, batch.prompts, batch.prompt_count)

    def predictions(self, batch: RewardBatch, own: torch.Tensor) -> Predictions:
        """See `RewardObjective`."""
        log_odds = batch.rewards.detach()
        said = (torch.sign(log_odds) + 1) / 2  # a half where it says neither
        correct = said * batch.scores + (1 - said) * (1 - batch.scores)
        return Predictions(torch.sigmoid(log_odds.abs()), correct)


def reads_steps(objective: RewardObjective) -> bool:
    """Whether its scores are labels of steps (the parts of a score, as `laurel.rewards.step_scores` names them)."""
    return bool(getattr(objective, "of_steps", False))


def _of_pairs(batch: RewardBatch) -> Predictions:
    better, worse = ordered_pairs(batch.scores, batch.prompts)
    return _of_leads(batch.rewards[better] - batch.rewards[worse])


def _of_leads(leads: torch.Tensor) -> Predictions:
    """From the log-odds of what came true against its only alternative."""
    return Predictions(torch.sigmoid(leads.detach().abs()), (torch.sign(leads.detach()) + 1) / 2)
