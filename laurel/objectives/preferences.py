"""The losses of `preference_losses` as objectives of an algorithm, over every pair (or answer) below a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from laurel.errors import ConfigurationError
from laurel.objectives.preference_losses import (
    dpo_loss,
    ipo_loss,
    kto_loss,
    mismatched_divergence,
    odds_ratio_loss,
    robust_dpo_loss,
    simpo_loss,
)
from laurel.objectives.rollouts import RolloutBatch

Result = tuple[torch.Tensor, dict[str, torch.Tensor]]


@dataclass(frozen=True)
class DirectPreference:
    """`dpo_loss` or `robust_dpo_loss` over the pairs of each prompt, averaged.

    Attributes:
        beta: strength of the pull to the reference, above 0; the implicit reward is beta * log-ratio.
        label_smoothing: probability that a label is the wrong way round, in [0, 1/2).
        robust: unbiased under such labels, in place of conservative.
        per_token: the log-ratio is divided by the answer's length.
        against_old: the reference is the policy before the update, which drew the samples (SPIN).

    Diagnostics: of `pair_diagnostics`, with the implicit reward.
    """

    beta: float
    label_smoothing: float = 0.0
    robust: bool = False
    per_token: bool = False
    against_old: bool = False

    whole_rollouts: ClassVar[Literal[True]] = True
    corrects_reuse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigurationError(
                f"The probability of a flipped label must lie in [0, 0.5), got {self.label_smoothing!r}.",
                hint="0 trusts every label.",
            )
        if self.robust and not self.label_smoothing:
            raise ConfigurationError(
                "The robust form without flipped labels is the plain one.", hint="set label_smoothing, such as 0.1."
            )

    @property
    def needs_reference(self) -> bool:
        """Whether it asks for a named reference."""
        return not self.against_old

    def rewards(self, batch: RolloutBatch) -> torch.Tensor:
        """See `ImplicitReward`: beta * log-ratio."""
        return self.beta * self._ratios(batch)

    def __call__(self, batch: RolloutBatch) -> Result:
        ratios = self._ratios(batch)
        winners, losers = batch.pairs
        loss = robust_dpo_loss if self.robust else dpo_loss
        values = loss(ratios[winners], ratios[losers], beta=self.beta, label_smoothing=self.label_smoothing)
        return batch.prompt_means(values, winners), pair_diagnostics(batch, self.beta * ratios)

    def _ratios(self, batch: RolloutBatch) -> torch.Tensor:
        return batch.log_ratios / batch.lengths if self.per_token else batch.log_ratios


@dataclass(frozen=True)
class IdentityPreference:
    """`ipo_loss` over the pairs of each prompt, averaged.

    Attributes:
        tau: strength of the pull to the reference, above 0.
        per_token: the log-ratio is divided by the answer's length.

    Diagnostics: of `pair_diagnostics`, with tau * log-ratio as the reward.
    """

    tau: float
    per_token: bool = True

    whole_rollouts: ClassVar[Literal[True]] = True
    needs_reference: ClassVar[bool] = True
    corrects_reuse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(tau=self.tau)

    def rewards(self, batch: RolloutBatch) -> torch.Tensor:
        """See `ImplicitReward`: tau * log-ratio."""
        return self.tau * self._ratios(batch)

    def __call__(self, batch: RolloutBatch) -> Result:
        ratios = self._ratios(batch)
        winners, losers = batch.pairs
        values = ipo_loss(ratios[winners], ratios[losers], tau=self.tau)
        return batch.prompt_means(values, winners), pair_diagnostics(batch, self.tau * ratios)

    def _ratios(self, batch: RolloutBatch) -> torch.Tensor:
        return batch.log_ratios / batch.lengths if self.per_token else batch.log_ratios


@dataclass(frozen=True)
class Desirability:
    """`kto_loss` over the answers of each prompt, averaged: advantage above 0 is good, below 0 bad, 0 a mismatched one.

    z is estimated from all mismatched answers of the optimiser step, before it.

    Attributes:
        beta: strength of the pull to the reference, above 0.
        desirable_weight, undesirable_weight: how much an answer of each kind counts, above 0.

    Diagnostics: `preference/chosen` and `preference/rejected`, the implicit reward beta * log-ratio of good and bad
    answers; `preference/margin`, by how much an answer's reward is on its side of beta z (above for a good one, below
    for a bad one), and `preference/accuracy`, the share of answers that are (at beta z: half); `preference/divergence`,
    z in nats.
    """

    beta: float
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    whole_rollouts: ClassVar[Literal[True]] = True
    needs_reference: ClassVar[bool] = True
    corrects_reuse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(
            beta=self.beta, desirable_weight=self.desirable_weight, undesirable_weight=self.undesirable_weight
        )

    def constant(self, batch: RolloutBatch) -> torch.Tensor:
        """z, from the mismatched answers of the whole step."""
        return mismatched_divergence(batch.log_ratios)

    def rewards(self, batch: RolloutBatch) -> torch.Tensor:
        """See `ImplicitReward`: beta * log-ratio."""
        return self.beta * batch.log_ratios

    def __call__(self, batch: RolloutBatch) -> Result:
        if batch.constant is None:
            raise ConfigurationError("The divergence of the step is missing.", hint="let the learner call it.")
        ratios, everyone = batch.log_ratios, torch.arange(len(batch.advantages), device=batch.advantages.device)
        good = batch.advantages > 0
        values = kto_loss(
            ratios,
            good,
            batch.constant,
            beta=self.beta,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
        )
        rewards = self.beta * ratios.detach()
        margins = torch.where(good, 1.0, -1.0) * (rewards - self.beta * batch.constant)
        diagnostics = {
            "preference/chosen": batch.prompt_means(rewards[good], everyone[good], nothing=torch.nan),
            "preference/rejected": batch.prompt_means(rewards[~good], everyone[~good], nothing=torch.nan),
            "preference/margin": batch.prompt_means(margins, everyone),
            "preference/accuracy": batch.prompt_means(half_at_zero(margins), everyone),
            "preference/divergence": batch.constant.expand(batch.prompt_count),
        }
        return batch.prompt_means(values, everyone), diagnostics


@dataclass(frozen=True)
class OddsRatio:
    """`odds_ratio_loss` over the pairs of each prompt, averaged; no reference.

    Attributes:
        weight: of the odds ratio beside the likelihood of the better answer, above 0.

    Diagnostics: of `pair_diagnostics`, with the mean log-probability of a token as the reward.
    """

    weight: float

    whole_rollouts: ClassVar[Literal[True]] = True
    corrects_reuse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(weight=self.weight)

    def rewards(self, batch: RolloutBatch) -> torch.Tensor:
        """See `ImplicitReward`: the mean log-probability of a token."""
        return batch.log_probs / batch.lengths

    def __call__(self, batch: RolloutBatch) -> Result:
        means = self.rewards(batch)
        winners, losers = batch.pairs
        values = odds_ratio_loss(means[winners], means[losers], weight=self.weight)
        return batch.prompt_means(values, winners), pair_diagnostics(batch, means)


@dataclass(frozen=True)
class SimplePreference:
    """`simpo_loss` over the pairs of each prompt, averaged; no reference.

    Attributes:
        beta: scale of the reward, above 0.
        margin: by how much the better answer's reward should be ahead; not negative.

    Diagnostics: of `pair_diagnostics`, with beta * mean log-probability of a token as the reward.
    """

    beta: float
    margin: float

    whole_rollouts: ClassVar[Literal[True]] = True
    corrects_reuse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)
        if not self.margin >= 0:
            raise ConfigurationError(f"The margin must not be negative, got {self.margin!r}.", hint="0 is none.")

    def rewards(self, batch: RolloutBatch) -> torch.Tensor:
        """See `ImplicitReward`: beta * the mean log-probability of a token."""
        return self.beta * batch.log_probs / batch.lengths

    def __call__(self, batch: RolloutBatch) -> Result:
        means = batch.log_probs / batch.lengths
        winners, losers = batch.pairs
        values = simpo_loss(means[winners], means[losers], beta=self.beta, margin=self.margin)
        return batch.prompt_means(values, winners), pair_diagnostics(batch, self.beta * means)


def pair_diagnostics(batch: RolloutBatch, rewards: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of the pairs of each prompt, averaged, [Q] each, without gradient; NaN for a prompt without pairs.

    `preference/chosen` and `preference/rejected` (the rewards of better and worse answers), `preference/margin` (their
    difference) and `preference/accuracy` (the share of pairs that the rewards order rightly; equal ones count half).

    Args:
        rewards: [R] what the method takes for the reward of a rollout.
    """
    winners, losers = batch.pairs
    chosen, rejected = rewards.detach()[winners], rewards.detach()[losers]
    margins = chosen - rejected
    values = {
        "preference/chosen": chosen,
        "preference/rejected": rejected,
        "preference/margin": margins,
        "preference/accuracy": half_at_zero(margins),
    }
    return {name: batch.prompt_means(value, winners, nothing=torch.nan) for name, value in values.items()}


def half_at_zero(margins: torch.Tensor) -> torch.Tensor:
    """1 for a margin above 0, 0 below, and one half at 0, where nothing is ordered: a coin is right half the time."""
    return (torch.sign(margins) + 1) / 2


def check_positive(**settings: float) -> None:
    """Every one of these must be above 0.

    Raises:
        ConfigurationError: naming the one that is not.
    """
    for name, value in settings.items():
        if not value > 0:
            raise ConfigurationError(f"{name} must be above 0, got {value!r}.", hint="see the default.")
