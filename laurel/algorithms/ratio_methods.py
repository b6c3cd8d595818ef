"""Named methods that differ in how the ratio is bounded or how the batch is scaled. Notation as in `methods`."""

from __future__ import annotations

from laurel.algorithms.algorithm import Algorithm, Sampled, Step
from laurel.algorithms.constraints import KL, held
from laurel.algorithms.terms import clip_term, standard_term, token_mean
from laurel.credit import Standardised, StepStandardised
from laurel.objectives import (
    Budget,
    ClippedRatio,
    SamplerCorrection,
    SequenceMean,
    SequenceRatio,
    TokenMean,
    WeightedPolicyGradient,
)


def gspo(
    *,
    clip: float = 3e-4,
    clip_high: float = 4e-4,
    maximum_kl: float | None = None,
    kl: float | KL = 0.0,
    entropy: float = 0.0,
    constraint: Budget | None = None,
    sampler_correction: SamplerCorrection | None = None,
    ddof: int = 0,
    epsilon: float = 1e-6,
    epochs: int = 1,
    minibatches: int = 1,
) -> Algorithm:
    """Group sequence policy optimisation: one ratio per answer, the geometric mean over its tokens, clipped.

    Args:
        clip, clip_high: how far below and above 1 the sequence ratio is still rewarded.
        maximum_kl: stop an update once KL(old, pi), measured in nats per token, exceeds this; None: never.
        kl: strength of the pull to the reference policy: a number (in the loss), or a `KL`; 0 is none.
        entropy: coefficient of the entropy bonus.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
        sampler_correction: weights for tokens that other weights or another engine drew: a `SamplerCorrection`.
        ddof, epsilon: of the group's deviation, as in `grpo`.
        epochs, minibatches: optimiser steps on one batch; with one step there is nothing to clip.
    """
    near = held(kl, entropy, constraint, sampler_correction)
    return Algorithm(
        name="gspo",
        title="Group sequence policy optimisation",
        paper="Zheng et al. 2025, arXiv 2507.18071, equations 5 and 14",
        equation=f"1/N sum_i min(s_i A, clip(s_i, {1 - clip:g}, {1 + clip_high:g}) A), "
        f"s_i = (pi(o_i)/old(o_i))^(1/|o_i|), {standard_term(ddof, epsilon)}" + near.terms,
        source=Sampled(),
        credit=Standardised(ddof=ddof, epsilon=epsilon),
        objective=near.weighted(SequenceRatio(clip, clip_high)),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=SequenceMean(),
        step=Step(epochs, minibatches, maximum_kl),
        deviations="the deviation is that of the group itself (ddof=1 is torch.std's), and epsilon is added to it.",
    )


def cispo(
    *,
    maximum_ratio: float = 5.0,
    denominator: str = "step",
    maximum_kl: float | None = None,
    kl: float | KL = 0.0,
    entropy: float = 0.0,
    constraint: Budget | None = None,
    sampler_correction: SamplerCorrection | None = None,
    ddof: int = 0,
    epsilon: float = 1e-6,
    epochs: int = 1,
    minibatches: int = 1,
) -> Algorithm:
    """Clipped importance-sampling policy optimisation: the ratio is a bounded weight, so no token loses its gradient.

    Args:
        maximum_ratio: the bound on the ratio itself. The paper writes 1 + epsilon_high; where a library calls 5 its
            "epsilon_high", it means this number.
        denominator: as in `dapo`.
        maximum_kl: stop an update once KL(old, pi), measured in nats per token, exceeds this; None: never.
        kl: strength of the pull to the reference policy: a number (in the loss), or a `KL`; 0 is none.
        entropy: coefficient of the entropy bonus.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
        sampler_correction: weights for tokens that other weights or another engine drew: a `SamplerCorrection`.
        ddof, epsilon: of the group's deviation, as in `grpo`.
        epochs, minibatches: optimiser steps on one batch.
    """
    near = held(kl, entropy, constraint, sampler_correction)
    reduction, average = token_mean(denominator)
    return Algorithm(
        name="cispo",
        title="Clipped importance-sampling policy optimisation",
        paper="MiniMax 2025, arXiv 2506.13585, equations 4 and 5",
        equation=f"{average}sg(min(rho, {maximum_ratio:g})) A log pi(o_it), "
        f"rho = pi(o_it)/old(o_it), {standard_term(ddof, epsilon)}" + near.terms,
        source=Sampled(),
        credit=Standardised(ddof=ddof, epsilon=epsilon),
        objective=near.weighted(WeightedPolicyGradient(maximum_ratio)),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=reduction,
        step=Step(epochs, minibatches, maximum_kl),
        deviations="maximum_ratio bounds the ratio itself, and only from above (the paper: 1 + epsilon_high, without a "
        "number, and a lower bound that never binds); the denominator runs over the whole step (the paper writes that "
        "of one prompt: denominator='prompt'); the deviation is that of the group itself (ddof=1 is torch.std's), and "
        "epsilon is added to it.",
    )


def reinforce_plus_plus(
    *,
    group_baseline: bool = False,
    clip: float = 0.2,
    clip_high: float | None = None,
    maximum_kl: float | None = None,
    kl: float | KL = 0.0,
    entropy: float = 0.0,
    constraint: Budget | None = None,
    sampler_correction: SamplerCorrection | None = None,
    epsilon: float = 1e-8,
    epochs: int = 1,
    minibatches: int = 1,
) -> Algorithm:
    """REINFORCE with PPO's clip and one standardisation over the whole step, which needs no group and no critic.

    Args:
        group_baseline: subtract the mean of the siblings first (the paper's variant for several samples per prompt).
        clip, clip_high: how far below and above 1 a token's ratio is still rewarded (`clip_high` None: the same).
        maximum_kl: stop an update once KL(old, pi), measured in nats per token, exceeds this; None: never.
        kl: strength of the pull to the reference policy: a number (in the reward; with a group
            baseline in the loss), or a `KL`; 0 is none.
        entropy: coefficient of the entropy bonus.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
        sampler_correction: weights for tokens that other weights or another engine drew: a `SamplerCorrection`.
        epsilon: added to the deviation, in units of the return.
        epochs, minibatches: optimiser steps on one batch.
    """
    high = clip if clip_high is None else clip_high
    raw = "R(o_i) - mean_j R(o_j)" if group_baseline else "R(o_i)"
    near = held(kl, entropy, constraint, sampler_correction, place="loss" if group_baseline else "reward", in_loss="k2")
    return Algorithm(
        name="reinforce_plus_plus",
        title="REINFORCE++",
        paper="Hu et al. 2025, arXiv 2501.03262",
        equation=f"1/(sum_i |o_i|) sum_i sum_t {clip_term(clip, high)}, A = (a - mean a) / (std a + {epsilon:g}) over "
        f"all tokens of the step, a = {raw}" + near.terms,
        source=Sampled(),
        credit=StepStandardised(within_group=group_baseline, epsilon=epsilon),
        objective=near.weighted(ClippedRatio(clip, high)),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=TokenMean(),
        step=Step(epochs, minibatches, maximum_kl),
        deviations="kl is off unless set; a number stands in the reward (k1), as in the paper's first form, or with a "
        "group baseline in the loss (k2), as in its variant. In the reward every token pays for the whole answer (the "
        "paper: for itself and what follows it), which is as exact, with more noise.",
    )
