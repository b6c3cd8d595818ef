"""The audit of an algorithm: the distribution of its gradient over everything it can sample, against the exact one.

Every group of samples that the policy can draw is listed with its probability and goes through the algorithm's own
credit, objective and reduction, on real trees; so bias and variance are exact numbers, not estimates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from laurel.algorithms import Algorithm, Asked, Branching, Demonstrated, Sampled
from laurel.credit import Accepted, Credit, CreditRule, CriticRule, OffPolicyRule, ProcessScores
from laurel.errors import ConfigurationError
from laurel.objectives import Reduction, TokenBatch, TokenLoss, reads_rollouts
from laurel.theory.branches import with_continuations
from laurel.theory.designs import Experience, groups, with_greedy
from laurel.theory.exact import history_values, path_returns, return_gradient, score_function_gradient
from laurel.theory.examples import example_logits, example_world
from laurel.theory.states import token_log_ratios, token_values
from laurel.theory.steps import one_step_per_token, with_step_values
from laurel.theory.world import History, World
from laurel.tree import FloatArray, Tree


@dataclass(frozen=True)
class GradientDistribution:
    """The estimated ascent direction of every experience: probabilities [E], gradients [E, S, V]."""

    probabilities: FloatArray
    gradients: FloatArray

    @property
    def mean(self) -> FloatArray:
        """The expected gradient, [S, V]."""
        return np.asarray(np.tensordot(self.probabilities, self.gradients, axes=1))

    @property
    def variance(self) -> float:
        """E |gradient - mean|^2, summed over all entries."""
        squares = np.square(self.gradients - self.mean).sum(axis=(1, 2))
        return float(self.probabilities @ squares)


@dataclass(frozen=True)
class Audit:
    """How an algorithm's expected gradient compares with the exact gradient of the expected return.

    Attributes:
        name: the algorithm.
        samples: G, rollouts per prompt.
        scale: <mean, exact> / |exact|^2: 1 is the exact length along the exact direction.
        cosine: of the angle between mean and exact: 1 is the exact direction.
        bias: |mean - exact| / |exact|: 0 is unbiased.
        variance: E |gradient - mean|^2 / |mean|^2: noise per unit of signal.
    """

    name: str
    samples: int
    scale: float
    cosine: float
    bias: float
    variance: float

    def __str__(self) -> str:
        return (
            f"{self.name:<20} G={self.samples}  scale {self.scale:6.3f}  cosine {self.cosine:6.3f}  "
            f"bias {self.bias:8.2e}  noise/signal {self.variance:8.3f}"
        )


def gradient_distribution(
    experiences: Iterable[Experience],
    logits: torch.Tensor,
    *,
    credit: CreditRule,
    losses: Sequence[TokenLoss],
    reduction: Reduction,
    behaviour: torch.Tensor | None = None,
    old: torch.Tensor | None = None,
    reference: torch.Tensor | None = None,
) -> GradientDistribution:
    """Minus the gradient of sum_t weight_t * (sum of losses)_t with respect to the logits, for every experience.

    Args:
        logits: [S, V], the policy now.
        behaviour: the table that the experiences were drawn from; the current one by default.
        old: the table at the start of the update; the behaviour by default.
        reference: the table of the reference policy, for regularisers.
    """
    experiences = list(experiences)
    behaviour = logits if behaviour is None else behaviour
    old = behaviour if old is None else old
    tokens = _scored_tokens(experiences, credit, reduction)
    state, token = torch.tensor(tokens.states), torch.tensor(tokens.tokens)
    table = torch.log_softmax(logits.detach(), dim=-1)
    log_probs = table[state, token].requires_grad_()
    entropies = -(table.exp() * table).sum(-1)
    entropy = entropies[state].requires_grad_()
    other = None if reference is None else torch.log_softmax(reference.detach(), dim=-1)
    difference = torch.zeros_like(table) if other is None else table - other
    divergences = (table.exp() * difference).sum(-1)
    divergence = divergences[state].requires_grad_()
    batch = TokenBatch(
        log_probs=log_probs,
        old_log_probs=torch.log_softmax(old.detach(), dim=-1)[state, token],
        sampler_log_probs=torch.log_softmax(behaviour.detach(), dim=-1)[state, token],
        entropy=entropy,
        advantages=torch.tensor(tokens.advantages, dtype=torch.float64),
        rollout=torch.tensor(tokens.rollouts),
        reference_log_probs=None if other is None else other[state, token],
        reference_divergence=None if other is None else divergence,
    )
    total = torch.zeros((), dtype=torch.float64)
    for loss in losses:
        total = total - (torch.tensor(tokens.weights, dtype=torch.float64) * loss(batch)[0]).sum()
    by_log_prob, by_entropy, by_divergence = torch.autograd.grad(
        total, (log_probs, entropy, divergence), allow_unused=True, materialize_grads=True
    )
    score = torch.nn.functional.one_hot(token, logits.shape[1]) - table.exp()[state]
    entropy_score = -(table.exp() * (table + entropies[:, None]))[state]
    divergence_score = (table.exp() * (difference - divergences[:, None]))[state]
    per_token = (
        by_log_prob[:, None] * score + by_entropy[:, None] * entropy_score + by_divergence[:, None] * divergence_score
    )
    cells = torch.tensor(tokens.experiences) * logits.shape[0] + state
    gradients = torch.zeros(len(experiences) * logits.shape[0], logits.shape[1], dtype=torch.float64)
    gradients.index_add_(0, cells, per_token)
    chances = np.array([experience.probability for experience in experiences])
    return GradientDistribution(chances, gradients.reshape(len(experiences), *logits.shape).numpy())


def compare(name: str, samples: int, estimated: GradientDistribution, exact: FloatArray) -> Audit:
    """The audit of a distribution of gradients against the exact one."""
    mean = estimated.mean
    size, length = float((exact**2).sum()), float((mean**2).sum())
    along = float((mean * exact).sum())
    return Audit(
        name=name,
        samples=samples,
        scale=along / size,
        cosine=along / np.sqrt(size * length) if length else 0.0,
        bias=float(np.sqrt(((mean - exact) ** 2).sum() / size)),
        variance=estimated.variance / length if length else float("inf"),
    )


def audit(
    algorithm: Algorithm,
    world: World | None = None,
    logits: torch.Tensor | None = None,
    *,
    samples: int = 2,
    behaviour: torch.Tensor | None = None,
) -> Audit:
    """Bias, variance and cosine of an algorithm's gradient of the return; regularisers and penalties are left out.

    Neither is its source's discarding of groups without signal: for one prompt that divides the expected gradient by
    the chance of a signal, and among prompts it weighs the hard and the easy ones more. A critic, where
    there is one, knows the exact values, and says 0 where a limit cut a rollout off. Of a method that branches one
    continuation is drawn at each place: values are means, so more of them change the noise and not the expectation.
    Of a method that learns from accepted rollouts alone the exact gradient is that of the chance to be accepted.
    Worlds have no text, so steps that would end at a separator are single tokens. A scorer of steps knows the exact
    values too; where its scores are paid as rewards it pays nothing.

    Args:
        world: the task; `example_world()` by default.
        logits: [S, V], the policy now; a fixed uneven one by default.
        samples: G, rollouts per prompt.
        behaviour: the policy that drew the samples, where it is not the current one. A method that corrects for that
            meets them before its first step; to any other they are a batch whose policy has since taken some.

    Raises:
        ConfigurationError: the algorithm is no estimate of that gradient: it compares answers, or imitates somebody.
    """
    _check_estimates(algorithm)
    world = example_world() if world is None else world
    logits = example_logits(world) if logits is None else logits
    drawn: Iterable[Experience] = groups(world, logits if behaviour is None else behaviour, samples)
    if isinstance(algorithm.source, Sampled) and algorithm.source.greedy_baseline:
        drawn = with_greedy(world, logits if behaviour is None else behaviour, drawn)
    if isinstance(algorithm.source, Sampled) and algorithm.source.branching is not None:
        listable = _listable(algorithm.source.branching, max(len(path.tokens) for path in world.paths))
        drawn = with_continuations(world, logits if behaviour is None else behaviour, drawn, listable)
    estimated = gradient_distribution(
        drawn,
        logits,
        credit=_with_exact_values(algorithm, world, logits, logits if behaviour is None else behaviour),
        losses=(cast(TokenLoss, algorithm.objective),),
        reduction=algorithm.reduction,
        behaviour=behaviour,
        old=logits if algorithm.corrects_sampler else None,
    )
    return compare(algorithm.name, samples, estimated, _exact(algorithm, world, logits))


def _exact(algorithm: Algorithm, world: World, logits: torch.Tensor) -> FloatArray:
    """The gradient of the expected return; of the chance to be accepted, where that is all that counts."""
    if not isinstance(algorithm.credit, Accepted):
        return return_gradient(world, logits)
    reached = [float(earned >= algorithm.credit.threshold) for earned in path_returns(world).tolist()]
    paid = [[one] * len(path.tokens) for one, path in zip(reached, world.paths, strict=True)]
    return score_function_gradient(world, logits, paid)


def _check_estimates(algorithm: Algorithm) -> None:
    """Refuse algorithms whose gradient is meant to be another one than that of the return."""
    because: tuple[str, str] | None = None
    if isinstance(algorithm.source, Asked):
        because = "imitates an expert", "what an error costs it is known instead: laurel.theory.chain_cost"
    elif algorithm.needs_teacher:
        because = "imitates a teacher", "it is at rest where the policy equals the teacher"
    elif getattr(algorithm.objective, "needs_normaliser", False):
        because = "recovers a reward from demonstrations", "where it rests is known: laurel.objectives.InverseSoftQ"
    elif reads_rollouts(algorithm.objective):
        because = "compares answers with each other", "its optimum is known: laurel.theory.preference_optimum"
    elif isinstance(algorithm.source, Demonstrated):
        because = "imitates demonstrations", "what an error costs it is known instead: laurel.theory.chain_cost"
    if because is not None:
        raise ConfigurationError(
            f"'{algorithm.name}' {because[0]}: its gradient is no estimate of that of the return, so there is nothing "
            "to compare it with.",
            hint=f"{because[1]}.",
        )


def _listable(branching: Branching, longest: int) -> Branching:
    """The same places, as far as a world has them, with one continuation each."""
    every = 1 if branching.separator is not None else branching.every
    places = longest if branching.budget is None else branching.places_per_sample
    return Branching(every, None, branching.entropy_above, continuations=1, budget=max(places, 1))


def _with_exact_values(algorithm: Algorithm, world: World, logits: torch.Tensor, behaviour: torch.Tensor) -> CreditRule:
    """The algorithm's credit; its critic or its scorer of steps, if it has one, knows the exact values."""
    values = history_values(world, logits)
    if isinstance(algorithm.credit, ProcessScores) and algorithm.credit.part is not None:
        return _with_exact_scores(algorithm, algorithm.credit, values)
    if not algorithm.needs_critic:
        return cast(CreditRule, algorithm.credit)

    def credit(trees: Sequence[Tree]) -> list[Credit]:
        said = [np.nan_to_num(token_values(tree, values)) for tree in trees]
        if not algorithm.needs_log_ratios:
            return cast(CriticRule, algorithm.credit)(trees, said)
        ratios = [token_log_ratios(tree, world, logits, behaviour) for tree in trees]
        return cast(OffPolicyRule, algorithm.credit)(trees, said, ratios)

    return credit


def _with_exact_scores(algorithm: Algorithm, rule: ProcessScores, values: Mapping[History, float]) -> CreditRule:
    in_tokens = isinstance(algorithm.source, Sampled) and algorithm.source.step_separator is not None
    known = values if rule.reading == "values" else {}

    def credit(trees: Sequence[Tree]) -> list[Credit]:
        stepped = [one_step_per_token(tree) if in_tokens else tree for tree in trees]
        return rule([with_step_values(tree, known, cast(str, rule.part)) for tree in stepped])

    return credit


@dataclass(frozen=True)
class _Tokens:
    """All tokens that carry loss in any experience, [N] each."""

    experiences: list[int]
    states: list[int]
    tokens: list[int]
    advantages: list[float]
    weights: list[float]
    rollouts: list[int]


def _scored_tokens(experiences: Sequence[Experience], credit: CreditRule, reduction: Reduction) -> _Tokens:
    scored = _Tokens([], [], [], [], [], [])
    rollouts = 0
    for index, experience in enumerate(experiences):
        credits = credit(experience.trees)
        weights = reduction(experience.trees, [given.mask for given in credits])
        used = 0
        for tree, given, weight in zip(experience.trees, credits, weights, strict=True):
            flat = tree.flat
            count = int(flat.policy.sum())
            keep = given.mask[flat.policy]
            scored.states.extend(np.array(experience.states[used : used + count], dtype=np.int64)[keep].tolist())
            used += count
            scored.tokens.extend(flat.tokens[given.mask].tolist())
            scored.advantages.extend(given.advantages[given.mask].tolist())
            scored.weights.extend(weight[given.mask].tolist())
            first_leaf = np.searchsorted(np.array(tree.leaves), flat.segment[given.mask])
            scored.rollouts.extend((rollouts + first_leaf).tolist())
            rollouts += len(tree.leaves)
            scored.experiences.extend([index] * int(given.mask.sum()))
    return scored
