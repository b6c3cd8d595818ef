"""An algorithm is a value: where experience comes from, who gets the credit, what is minimised, how it is averaged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from laurel.algorithms.branching import Branching
from laurel.credit import Credit, CreditRule, CriticRule, OffPolicyRule, SiblingMean, Standardised, StepStandardised
from laurel.errors import ConfigurationError
from laurel.objectives import (
    Divergence,
    Penalty,
    Reduction,
    RewardForm,
    RolloutBatch,
    RolloutLoss,
    TokenBatch,
    TokenLoss,
)

__all__ = [
    "Algorithm",
    "Asked",
    "Compared",
    "Credit",
    "CreditRule",
    "Demonstrated",
    "Reduction",
    "RolloutBatch",
    "RolloutLoss",
    "Sampled",
    "Step",
    "TokenBatch",
    "TokenLoss",
    "TrustRegion",
]


@dataclass(frozen=True)
class Sampled:
    """Experience is drawn from the current policy.

    Attributes:
        discard_without_signal: draw further prompts in place of groups in which every rollout scored the same
            (dynamic sampling).
        maximum_draws: how many times `prompts_per_step` prompts may be drawn for one step.
        greedy_baseline: also draw one rollout per prompt with `top_k=1`, to compare the samples with; it is never
            learned from.
        branching: where continuations are drawn from the middle of the samples, to see what the steps between were
            worth; they are never learned from.
        step_separator: cut every turn after each of these strings in its text, so that its steps can be scored
            (`laurel.rewards.step_scores`); None: a turn is one step.
        self_play: beside the samples stands the task's own `reference` answer, which counts as better than each of
            them; no reward is asked for.
        taught: a teacher says what it would have written in place of every token; no reward is asked for.
        given: the share of the prompts of a step that come with the task's own `reference` answer in place of samples,
            where a teacher says what it would have written.
        hint: what is put before the prompts of which no sample was accepted, which are then drawn once more; a template
            over {reference} and the task's data. What is learned from stands below the prompt without it.
        recovers: how a reward is recovered from the tasks' own `reference` answers, which pays for the samples; no
            other is asked for.
    """

    discard_without_signal: bool = False
    maximum_draws: int = 1
    greedy_baseline: bool = False
    branching: Branching | None = None
    step_separator: str | None = None
    self_play: bool = False
    taught: bool = False
    given: float = 0.0
    hint: str | None = None
    recovers: RewardForm | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.given < 1:
            raise ConfigurationError(
                f"The share of given answers must be at least 0 and below 1, got {self.given!r}.",
                hint="for given answers alone set on_policy=False.",
            )
        if self.maximum_draws < 1:
            raise ConfigurationError(
                f"maximum_draws must be at least 1, got {self.maximum_draws}.", hint="1 draws each prompt once."
            )
        if self.hint == "":
            raise ConfigurationError("The hint is empty.", hint="such as hint='The answer is {reference}. '.")
        if self.step_separator == "":
            raise ConfigurationError("The separator of steps is empty.", hint=r'such as step_separator="\n".')

    @property
    def needs_reward(self) -> bool:
        """Whether samples are worth nothing until a reward has judged them."""
        return not (self.self_play or self.taught or self.recovers is not None)


@dataclass(frozen=True)
class Demonstrated:
    """Experience is the tasks' own `reference` answers, written by someone else."""


@dataclass(frozen=True)
class Compared:
    """Experience is the tasks' own judged answers (`laurel.preferences`), written by someone else.

    Attributes:
        mismatched: beside the answers to each prompt stands one to another prompt of the step, for an estimate of the
            divergence from the reference.
    """

    mismatched: bool = False


@dataclass(frozen=True)
class Asked:
    """Experience is an expert's answers in the states that a mixture of expert and policy reaches, kept for good.

    Attributes:
        queries: how many questions the expert is asked in the whole run; None: as many as come up. A state that was
            visited before is no new question.
        mixture: in round i = 1, 2, ... the expert takes each turn itself with the chance mixture^(i - 1).
        round_steps: steps of a round. The first one draws and asks, all of them learn.
        prompts_per_update: how many prompts, with all rollouts that were drawn for them at a time and the answers
            beside these, a step learns from; all there are while there are fewer.
    """

    queries: int | None = None
    mixture: float = 0.0
    round_steps: int = 1
    prompts_per_update: int = 32

    def __post_init__(self) -> None:
        for name in ("queries", "round_steps", "prompts_per_update"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigurationError(
                    f"{name} must be a whole number from 1, got {value!r}.",
                    hint="queries: null asks without a bound." if name == "queries" else "raise it.",
                )
        if not 0 <= self.mixture <= 1:
            raise ConfigurationError(
                f"mixture must lie between 0 and 1, got {self.mixture!r}.",
                hint="0: the expert takes the turns of the first round; 1: it always does, which is cloning it.",
            )

    def chance(self, round: int) -> float:
        """The expert's chance to take a turn itself, in round 0, 1, ...; the first round is always the expert's."""
        return float(self.mixture**round)


@dataclass(frozen=True)
class Step:
    """How often one batch of experience is used.

    Attributes:
        epochs: passes over the batch.
        minibatches: optimiser steps per pass; trees are shuffled by (run seed, step, epoch).
        maximum_kl: once the estimated KL(old, now), in nats per token of the next minibatch, exceeds this, the
            remaining optimiser steps of the batch are left out; None: none ever is. It is measured before a step, so
            what holds is this bound plus the move of one step.
    """

    epochs: int = 1
    minibatches: int = 1
    maximum_kl: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.minibatches < 1:
            raise ConfigurationError(
                f"A step needs at least 1 epoch and 1 minibatch, got {self}.", hint="1 of each is one optimiser step."
            )
        if self.maximum_kl is not None and not self.maximum_kl > 0:
            raise ConfigurationError(f"maximum_kl must be above 0, got {self.maximum_kl!r}.", hint="try 0.02.")
        if self.maximum_kl is not None and self.on_policy:
            raise ConfigurationError(
                "maximum_kl would never be reached: with one optimiser step per batch the KL is measured once, at 0.",
                hint="take several epochs or minibatches, or leave maximum_kl out.",
            )

    @property
    def on_policy(self) -> bool:
        """One optimiser step per batch: the ratio of new to old probabilities is exactly 1."""
        return self.epochs * self.minibatches == 1


@dataclass(frozen=True)
class TrustRegion:
    """One step per batch, as far as the measured KL(old, now) allows: what stands in place of `Step` and an optimiser.

    The KL is summed over the whole vocabulary and averaged over the states in which the batch decided, every visit
    once. How the step is found: `laurel.learner.trust_region`.

    Attributes:
        maximum_kl: delta, in nats per token. The quadratic model of the KL meets it; the measured KL never exceeds it.
        iterations: most of the conjugate gradient. Each costs six forward passes over the batch by arithmetic, about
            ten by the clock of a CPU, where tangents have none of the fast kernels.
        damping: c, added to the diagonal of the Fisher matrix; the larger, the nearer the step is to the gradient.
        halvings: how often a step that does not improve the measured surrogate within `maximum_kl` is halved before it
            is refused.
    """

    maximum_kl: float = 0.01
    iterations: int = 10
    damping: float = 0.1
    halvings: int = 10

    epochs: ClassVar[int] = 1
    minibatches: ClassVar[int] = 1
    on_policy: ClassVar[bool] = False  # the objective is also measured where the step leads

    def __post_init__(self) -> None:
        if not self.maximum_kl > 0:
            raise ConfigurationError(f"maximum_kl must be above 0, got {self.maximum_kl!r}.", hint="try 0.01.")
        if self.iterations < 1:
            raise ConfigurationError(f"iterations must be at least 1, got {self.iterations!r}.", hint="10 is usual.")
        if not self.damping >= 0:
            raise ConfigurationError(f"damping must be at least 0, got {self.damping!r}.", hint="try 0.1.")
        if self.halvings < 0:
            raise ConfigurationError(f"halvings must be at least 0, got {self.halvings!r}.", hint="10 is usual.")


@dataclass(frozen=True)
class Algorithm:
    """A complete method. The named ones are functions in `laurel.algorithms` that return one of these.

    Attributes:
        name, title, paper: what it is called and where it comes from.
        equation: what is maximised, in one line of plain text, with the resolved settings.
        deviations: where this differs from the paper, or "none".
        source, credit, objective, regularisers, reduction, step: the six visible choices.
        penalties: what is taken off the reward before credit is given: nearness to the reference, bounded parts.
    """

    name: str
    title: str
    paper: str
    equation: str
    source: Sampled | Demonstrated | Compared | Asked
    credit: CreditRule | CriticRule | OffPolicyRule
    objective: TokenLoss | RolloutLoss
    reduction: Reduction
    regularisers: tuple[TokenLoss, ...] = ()
    step: Step | TrustRegion = field(default_factory=Step)
    deviations: str = "none"
    penalties: tuple[Penalty, ...] = ()

    def __post_init__(self) -> None:
        corrects = getattr(self.objective, "corrects_reuse", False)
        if isinstance(self.step, TrustRegion) and not corrects:
            raise ConfigurationError(
                f"{self.name}: a trust region measures its objective where a step leads, and this one means nothing "
                "away from the policy that drew the batch.",
                hint="choose an objective with a ratio, such as laurel.objectives.Surrogate.",
            )
        if self.needs_log_ratios and getattr(self.objective, "corrects_sampler", False):
            raise ConfigurationError(
                f"{self.name}: its credit and its objective both weigh tokens by how the policy moved since they were "
                "drawn, and once is right.",
                hint="remove the sampler_correction.",
            )
        if not self.step.on_policy and not corrects:
            raise ConfigurationError(
                f"{self.name}: {self.step.epochs} epochs of {self.step.minibatches} minibatches use a batch after the "
                "policy that drew it has moved, and this objective does not correct for that.",
                hint="set epochs and minibatches to 1, or choose an objective with a ratio (grpo, dapo).",
            )
        exact = any(getattr(part, "needs_divergence", False) for part in self.penalties)
        if exact and isinstance(self.credit, SiblingMean):
            raise ConfigurationError(
                f"{self.name}: its baseline holds the sample itself, which shrinks by 1 - 1/G the half of an exact KL "
                "that is in the reward, but not its other half, which is in the loss.",
                hint="use the KL estimator 'k1' in the reward, or place the KL in the loss, or take rloo.",
            )
        if self._rescales and exact:
            raise ConfigurationError(
                f"{self.name}: advantages are divided by a deviation, and with them the half of an exact KL that is in "
                "the reward, but not its other half, which is in the loss.",
                hint="use the KL estimator 'k1' in the reward, or place the KL in the loss.",
            )

    @property
    def _rescales(self) -> bool:
        """Whether the advantages have lost the units of the reward."""
        return isinstance(self.credit, Standardised | StepStandardised) or getattr(self.credit, "standardise", False)

    @property
    def needs_reference(self) -> bool:
        """Whether some part reads log-probabilities of the reference policy."""
        parts = (self.objective, *self.regularisers, *self.penalties)
        return any(getattr(part, "needs_reference", False) for part in parts)

    @property
    def needs_divergence(self) -> bool:
        """Whether some part of the loss reads the exact divergence from the reference, summed over the vocabulary."""
        return any(getattr(part, "needs_divergence", False) for part in (self.objective, *self.regularisers))

    @property
    def divergence(self) -> Divergence:
        """Which divergence that is."""
        return getattr(self.objective, "divergence", Divergence())

    @property
    def needs_teacher(self) -> bool:
        """Whether the reference is a teacher, another policy than the one that learns."""
        return getattr(self.objective, "needs_teacher", False)

    @property
    def recovers(self) -> RewardForm | None:
        """How a reward is recovered from demonstrations; None: none is."""
        return self.source.recovers if isinstance(self.source, Sampled) else None

    @property
    def needs_log_ratios(self) -> bool:
        """Whether credit reads how far the policy has moved since the experience was drawn."""
        return getattr(self.credit, "needs_log_ratios", False)

    @property
    def corrects_sampler(self) -> bool:
        """Whether experience of other weights than the present ones may be learned from."""
        return self.needs_log_ratios or getattr(self.objective, "corrects_sampler", False)

    @property
    def needs_critic(self) -> bool:
        """Whether credit reads the values of a learned critic."""
        return getattr(self.credit, "needs_values", False)
