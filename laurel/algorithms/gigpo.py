"""Groups in groups: rollouts of a prompt are compared as wholes, and turns that began in the same state too."""

from __future__ import annotations

from typing import Literal

from laurel.algorithms.algorithm import Algorithm, Sampled, Step
from laurel.algorithms.constraints import KL, held
from laurel.algorithms.terms import clip_term
from laurel.credit import AnchorStates, Baseline, DialogueState
from laurel.objectives import Budget, ClippedRatio, SamplerCorrection, SequenceMean

_COMPARED = {
    "deviation": "c(x) = (x - mean x) / std x",
    "mean": "c(x) = x - mean x",
    "leave_one_out": "c(x) = x - mean of the others",
}


def gigpo(
    *,
    weight: float = 1.0,
    discount: float = 0.95,
    state: Literal["observation", "history"] | DialogueState = "observation",
    baseline: Baseline = "deviation",
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
    """GRPO, and beside it every turn against the other turns of its prompt that began in the same state.

    Args:
        weight: omega, of the turns beside the whole rollouts.
        discount: gamma per turn, of what a turn still earns.
        state: what a state is: "observation", what the environment said last; "history", everything before the turn; or
            a function of the dialogue (what the policy said and what was answered, in turn).
        baseline: "deviation" or "mean", the two normalisations of the paper, or "leave_one_out".
        clip, clip_high: how far below and above 1 a token's ratio is still rewarded (`clip_high` None: the same).
        maximum_kl: stop an update once KL(old, pi), measured in nats per token, exceeds this; None: never.
        kl: strength of the pull to the reference policy: a number (in the loss), or a `KL`; 0 is none.
        entropy: coefficient of the entropy bonus.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
        sampler_correction: weights for tokens that other weights or another engine drew: a `SamplerCorrection`.
        epochs, minibatches: optimiser steps on one batch.
    """
    high = clip if clip_high is None else clip_high
    near = held(kl, entropy, constraint, sampler_correction)
    credit = AnchorStates(weight, discount, state, baseline)
    turns = f"A = c(R) + {weight:g} c(G of the turns that began in the same state), G = sum_k {discount:g}^k r"
    return Algorithm(
        name="gigpo",
        title="Group-in-group policy optimisation: turns from the same state",
        paper="Feng et al. 2025, arXiv 2505.10978, section 4",
        equation=f"1/N sum_i 1/|o_i| sum_t {clip_term(clip, high)}, {turns}, {_COMPARED[baseline]}" + near.terms,
        source=Sampled(),
        credit=credit,
        objective=near.weighted(ClippedRatio(clip, high)),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=SequenceMean(),
        step=Step(epochs, minibatches, maximum_kl),
        deviations="kl defaults to 0, and the deviation is that of the group itself with 1e-6 added; any function of "
        "the dialogue may say what a state is (the paper: the observation); leave_one_out is ours.",
    )
