"""What a reward is fitted by that is recovered from demonstrations, and what it pays the policy that imitates them.

r(y) is the reward of a whole answer y to a prompt, E the expert's answers, pi the policy's. The losses are per prompt,
minimised in the reward; the policy then maximises the pay. Whole answers are listed to prove the fixed points
(`laurel.theory`):

| form                  | the reward at its best             | the policy's game at that reward                       |
|-----------------------|------------------------------------|--------------------------------------------------------|
| `Discriminator`       | r(y) = log E(y) / pi(y)            | min KL(pi, E) (pay "log_odds")                         |
| `ShapedDiscriminator` | sum of f = log E(y), where pi is E | max E_pi[f] + H(pi), at rest in pi = E                 |
| `MaximumEntropy`      | its gradient is E_pi[r'] - E_E[r'] | max E_pi[r] + tau H(pi), so that pi = exp(r / tau) / Z |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch.nn.functional import softplus

from laurel.errors import ConfigurationError
from laurel.objectives.rollouts import means_of_prompts

PAYS = ("log_odds", "logistic")


@dataclass(frozen=True)
class Contrast:
    """Answers by an expert and by the policy, R of them below Q prompts, with N tokens written in them.

    Attributes:
        rewards: [R] r, read at the last token of each, with gradient.
        expert: [R] bool, who wrote it.
        prompts: [R] which prompt each answers, in 0 ... Q - 1.
        prompt_count: Q.
        log_probs: [N] log pi of every token that was written, without gradient; None where nobody asks.
        owner: [N] the answer that each token belongs to; the tokens of one stand together, in order.
        before, after: [N] the potential h of the state in which each token was written, and of the next one (which
            after the last token nobody reads), with gradient; None where there is no potential.
        last: [N] bool, the last token of its answer.
    """

    rewards: torch.Tensor
    expert: torch.Tensor
    prompts: torch.Tensor
    prompt_count: int
    log_probs: torch.Tensor | None = None
    owner: torch.Tensor | None = None
    before: torch.Tensor | None = None
    after: torch.Tensor | None = None
    last: torch.Tensor | None = None

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over each answer of values per token [N], [R]."""
        assert self.owner is not None
        return torch.zeros_like(self.rewards).index_add(0, self.owner, values.to(self.rewards.dtype))

    def of_prompts(self, expert: torch.Tensor, policy: torch.Tensor) -> torch.Tensor:
        """[Q] for each prompt: the mean of `expert` [R] over the expert's answers, and of `policy` over others."""
        theirs, ours = self.expert, ~self.expert
        shown = means_of_prompts(expert[theirs], self.prompts[theirs], self.prompt_count)
        return shown + means_of_prompts(policy[ours], self.prompts[ours], self.prompt_count)


class RewardForm(Protocol):
    """How a reward is recovered.

    Attributes:
        has_potential: whether it is shaped by a potential of every state.
        fit_reads_policy: whether its loss reads log pi.
        pay_reads_policy: whether the pay does, so that what samples is to be the policy itself.
        uses_replay: whether earlier samples may stand among the policy's answers; not where the loss reads how likely
            the policy, as it is, makes them, nor where it estimates an expectation under it.
    """

    has_potential: ClassVar[bool]
    fit_reads_policy: ClassVar[bool]
    pay_reads_policy: ClassVar[bool]
    uses_replay: ClassVar[bool]

    def losses(self, batch: Contrast) -> torch.Tensor: ...

    def pays(self, batch: Contrast) -> torch.Tensor: ...

    def told(self, batch: Contrast) -> torch.Tensor | None: ...


@dataclass(frozen=True)
class Discriminator:
    """r is the logit of "the expert wrote this": D = sigma(r).

    Loss per prompt: mean_E softplus(-r) + mean_pi softplus(r). With both answers listed it is best at r = log E / pi
    (Ho and Ermon 2016, arXiv 1606.03476, algorithm 1).

    Attributes:
        pay: "log_odds", r = log D - log(1 - D), whose expectation is -KL(pi, E) at the best r; or "logistic",
            softplus(r) = -log(1 - D), the paper's, whose game is a Jensen-Shannon divergence. The second is nearly flat
            where an answer is plainly not the expert's.
    """

    pay: str = "log_odds"

    has_potential: ClassVar[bool] = False
    fit_reads_policy: ClassVar[bool] = False
    pay_reads_policy: ClassVar[bool] = False
    uses_replay: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.pay not in PAYS:
            raise ConfigurationError(f"algorithm: unknown pay {self.pay!r}.", hint=f"use {' or '.join(PAYS)}.")

    def losses(self, batch: Contrast) -> torch.Tensor:
        """[Q]. Example: r = 0 everywhere gives 2 log 2."""
        return batch.of_prompts(softplus(-batch.rewards), softplus(batch.rewards))

    def pays(self, batch: Contrast) -> torch.Tensor:
        """[R] what each answer earns."""
        return batch.rewards if self.pay == "log_odds" else softplus(batch.rewards)

    def told(self, batch: Contrast) -> torch.Tensor:
        """[R] 1 where the writer was told right, 0 where wrong, a half where undecided."""
        return _right(batch.rewards, batch.expert)


@dataclass(frozen=True)
class ShapedDiscriminator:
    """Every token's logit is f_t - log pi(a_t|s_t), with a reward g where the answer ends and a potential h of states:

        f_t = gamma h(s_(t+1)) - h(s_t),  and at the end of the answer  f_T = g(answer) - h(s_T)

    An answer that a limit cut off ends there: the expert's fit, so where others are cut is for g to judge.

    Loss per prompt: mean_E sum_t softplus(-logit_t) + mean_pi sum_t softplus(logit_t). Where the policy is the expert
    it is best at f_t = log E(a_t|s_t), and for an expert E(y) = exp(R(y)) / Z that leaves one solution up to a constant
    c of the prompt: g = R + c and h = the soft value + c. The pay is sum_t gamma^t (f_t - log pi(a_t|s_t)), which at
    gamma = 1 is g - log pi(answer) - h(prompt).

    Source: Fu, Luo and Levine 2017 (AIRL), arXiv 1710.11248. Prefixes of an answer never merge, so a
    reward g of every token could be any part of the potential; g is read at the end of the answer alone.

    Attributes:
        discount: gamma, per token, in (0, 1].
    """

    discount: float = 1.0

    has_potential: ClassVar[bool] = True
    fit_reads_policy: ClassVar[bool] = True
    pay_reads_policy: ClassVar[bool] = True
    uses_replay: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.discount <= 1:
            raise ConfigurationError(f"The discount must lie in (0, 1], got {self.discount!r}.", hint="1 is none.")

    def shaped(self, batch: Contrast) -> torch.Tensor:
        """f of every token, [N]."""
        before, after, last, owner = batch.before, batch.after, batch.last, batch.owner
        assert before is not None and after is not None and last is not None and owner is not None
        return torch.where(last, batch.rewards[owner], self.discount * after) - before

    def logits(self, batch: Contrast) -> torch.Tensor:
        """f_t - log pi(a_t|s_t), [N]."""
        assert batch.log_probs is not None
        return self.shaped(batch) - batch.log_probs

    def losses(self, batch: Contrast) -> torch.Tensor:
        """[Q]. Example: one token each, with logit 0: 2 log 2."""
        logits = self.logits(batch)
        return batch.of_prompts(batch.sums(softplus(-logits)), batch.sums(softplus(logits)))

    def pays(self, batch: Contrast) -> torch.Tensor:
        """[R] what each answer earns."""
        assert batch.owner is not None
        return batch.sums(self.logits(batch) * self.discount ** _places(batch.owner))

    def told(self, batch: Contrast) -> torch.Tensor:
        """[N] as `Discriminator.told`, of every token."""
        assert batch.owner is not None
        return _right(self.logits(batch), batch.expert[batch.owner])


@dataclass(frozen=True)
class MaximumEntropy:
    """r under which the expert's answers are most likely, for the policy exp(r / tau) / Z of greatest entropy.

    Loss per prompt: mean_pi r - mean_E r + c/2 (mean_pi r^2 + mean_E r^2). Where the policy is exp(r / tau) / Z the
    gradient of its first part is minus tau times that of the log-likelihood of the demonstrations, and it vanishes
    where the policy's expected features are the expert's. The pay is r - tau log pi(answer).

    Source: Ziebart et al. 2008 (AAAI), equation 6; with samples of the current policy for the partition function:
    Finn, Levine and Abbeel 2016, arXiv 1603.00448.

    Attributes:
        temperature: tau, above 0: reward per nat of entropy.
        regulariser: c, not negative: pull of the reward to 0. Without any, an expert without doubt has no finite
            reward.
    """

    temperature: float = 1.0
    regulariser: float = 0.1

    has_potential: ClassVar[bool] = False
    fit_reads_policy: ClassVar[bool] = False
    pay_reads_policy: ClassVar[bool] = True
    uses_replay: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ConfigurationError(
                f"The temperature of the entropy must be above 0, got {self.temperature!r}.", hint="such as 1."
            )
        if not 0 <= self.regulariser < float("inf"):
            raise ConfigurationError(
                f"The regulariser of the reward must be finite and not negative, got {self.regulariser!r}.",
                hint="such as 0.1.",
            )

    def losses(self, batch: Contrast) -> torch.Tensor:
        """[Q]. Example: an expert's answer of 1 and a sample of 3, c = 0.1: 3 - 1 + 0.05 (9 + 1) = 2.5."""
        pull = self.regulariser / 2 * batch.rewards.square()
        return batch.of_prompts(pull - batch.rewards, pull + batch.rewards)

    def pays(self, batch: Contrast) -> torch.Tensor:
        """[R] what each answer earns."""
        assert batch.log_probs is not None
        return batch.rewards - self.temperature * batch.sums(batch.log_probs)

    def told(self, batch: Contrast) -> None:
        """It tells nobody apart."""


def _right(logits: torch.Tensor, expert: torch.Tensor) -> torch.Tensor:
    return (torch.sign(torch.where(expert, logits, -logits).detach()) + 1) / 2


def _places(owner: torch.Tensor) -> torch.Tensor:
    """[N] the place of each token in its answer, from 0."""
    counts = torch.unique_consecutive(owner, return_counts=True)[1]
    starts = torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
    return torch.arange(len(owner), device=owner.device) - starts
