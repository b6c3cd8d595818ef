"""Proximal policy optimisation with Monte-Carlo values. Notation as in `methods`; V is a mean over continuations."""

from __future__ import annotations

from laurel.algorithms.algorithm import Algorithm, Sampled, Step
from laurel.algorithms.branching import Branching
from laurel.algorithms.constraints import KL, held
from laurel.algorithms.terms import clip_term
from laurel.credit import MonteCarloValues
from laurel.objectives import Budget, ClippedRatio, SamplerCorrection, TokenMean

LINE_BREAK = "\n"


def vine_ppo(
    *,
    every: int | None = None,
    separator: str | None = None,
    entropy_above: float | None = None,
    continuations: int = 9,
    budget: int | None = None,
    clip: float = 0.2,
    clip_high: float | None = None,
    maximum_kl: float | None = None,
    kl: float | KL = 0.0,
    entropy: float = 0.0,
    constraint: Budget | None = None,
    sampler_correction: SamplerCorrection | None = None,
    epochs: int = 1,
    minibatches: int = 1,
) -> Algorithm:
    """PPO whose values are measured: fresh continuations from the middle of every sample say what each step was worth.

    Args:
        every, separator, entropy_above: where steps end: after so many policy tokens; after this string; or before
            tokens that were drawn from a distribution of more entropy than this, in nats, for one forward pass over
            the samples. One of them; a line break where none is given. The start of each later turn is a place as well.
        continuations: K, drawn at each place, graded, and not learned from.
        budget: most continuations of one sample. It must be given, because they are most of what a step costs.
        clip, clip_high: how far below and above 1 a token's ratio is still rewarded (`clip_high` None: the same).
        maximum_kl: stop an update once KL(old, pi), measured in nats per token, exceeds this; None: never.
        kl: strength of the pull to the reference policy: a number (k3 in the loss), or a `KL`; 0 is none.
        entropy: coefficient of the entropy bonus.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
        sampler_correction: weights for tokens that other weights or another engine drew: a `SamplerCorrection`.
        epochs, minibatches: optimiser steps on one batch.
    """
    high = clip if clip_high is None else clip_high
    if every is None and entropy_above is None and separator is None:
        separator = LINE_BREAK
    near = held(kl, entropy, constraint, sampler_correction)
    branching = Branching(every, separator, entropy_above, continuations, budget)
    return Algorithm(
        name="vine_ppo",
        title="Proximal policy optimisation with Monte-Carlo values",
        paper="Kazemnejad et al. 2024 (VinePPO), arXiv 2410.01679, equations 5 to 7",
        equation=f"1/(sum_i |o_i|) sum_i sum_t {clip_term(clip, high)}, A = r + V(end of step) - V(start of step), "
        f"V = mean return of {continuations} continuations" + near.terms,
        source=Sampled(branching=branching),
        credit=MonteCarloValues(),
        objective=near.weighted(ClippedRatio(clip, high)),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=TokenMean(),
        step=Step(epochs, minibatches, maximum_kl),
        deviations="at the prompt V is the mean over the other samples, and no continuations are drawn; V at the end "
        "of a step also counts the sample itself, which went on from there; steps end by one plain rule (the paper "
        "parses solutions); a budget takes the first places of a sample; there is no kl penalty and one epoch "
        "unless asked (the paper: a small one, and several).",
    )
