"""Proximal policy optimisation over scored steps. Notation as in `methods`; c(step) is what a scorer said of a step."""

from __future__ import annotations

from laurel.algorithms.algorithm import Algorithm, Sampled, Step
from laurel.algorithms.constraints import KL, held
from laurel.algorithms.terms import clip_term
from laurel.algorithms.vine_ppo import LINE_BREAK
from laurel.credit import ProcessScores
from laurel.credit.process import Reading
from laurel.objectives import Budget, ClippedRatio, SamplerCorrection, TokenMean


def step_ppo(
    *,
    part: str = "steps",
    reading: Reading = "values",
    separator: str | None = LINE_BREAK,
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
    """PPO whose steps are judged one by one: by a process reward model, or by any function of (task, steps).

    The reward is a `weighted` one with a part `step_scores`, of weight 0: that part says what the steps were worth, the
    others what the answer earned.

    Args:
        part: the name of the step scores among the parts of the reward; "" if they are the whole of it.
        reading: "values": a score is what is still to come where the step ends, such as the chance of a right answer;
            a step is worth what it changed. "rewards": a score is paid with its step, on top of what the answer earns.
        separator: the text that ends a step within a turn; None: a turn is one step.
        clip, clip_high: how far below and above 1 a token's ratio is still rewarded (`clip_high` None: the same).
        maximum_kl: stop an update once KL(old, pi), measured in nats per token, exceeds this; None: never.
        kl: strength of the pull to the reference policy: a number (k3 in the loss), or a `KL`; 0 is none.
        entropy: coefficient of the entropy bonus.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
        sampler_correction: weights for tokens that other weights or another engine drew: a `SamplerCorrection`.
        epochs, minibatches: optimiser steps on one batch.
    """
    high = clip if clip_high is None else clip_high
    near = held(kl, entropy, constraint, sampler_correction)
    credit = ProcessScores(part, reading)
    advantage = "A = r + c(step) - c(step before)"
    if reading == "rewards":
        advantage = "A = sum of r + c over the steps from this one on - their mean over the other samples"
    return Algorithm(
        name="step_ppo",
        title="Proximal policy optimisation over scored steps",
        paper="Wang et al. 2024 (Math-Shepherd), arXiv 2312.08935, section 3.4; Lightman et al. 2023, arXiv 2305.20050",
        equation=f"1/(sum_i |o_i|) sum_i sum_t {clip_term(clip, high)}, {advantage}" + near.terms,
        source=Sampled(step_separator=separator),
        credit=credit,
        objective=near.weighted(ClippedRatio(clip, high)),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=TokenMean(),
        step=Step(epochs, minibatches, maximum_kl),
        deviations="there is no critic (the paper: scores as rewards, and a learned one): as values the scores stand "
        "in its place, as rewards the baseline is what the other samples earned. Before the first step the value is "
        "the mean over the other samples; after the last one of a finished answer it is 0, whatever its score, because "
        "the answer's own reward is known.",
    )
