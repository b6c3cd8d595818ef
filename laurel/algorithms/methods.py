"""The named methods of the spine: one short function each. Its signature is its settings, its docstring its story.

R(o) is everything a rollout o earned; pi, old and ref are the policy now, at the start of the step, and the reference.
An expectation over prompts q stands in front of every equation.
"""

from __future__ import annotations

from laurel.algorithms.algorithm import Algorithm, Demonstrated, Sampled, Step
from laurel.algorithms.constraints import KL, held
from laurel.algorithms.terms import clip_term, refuse_unread, standard_term, token_mean
from laurel.credit import (
    EveryToken,
    GreedyBaseline,
    LeaveOneOut,
    OverlongPenalty,
    Returns,
    SiblingMean,
    Standardised,
    TotalReward,
    WholeReturn,
)
from laurel.objectives import (
    Budget,
    ClippedRatio,
    ConstantLength,
    NegativeLogLikelihood,
    PolicyGradient,
    SamplerCorrection,
    SequenceMean,
    TokenMean,
)

SUMMED = "1/N sum_i sum_t "
MAXIMUM_DRAWS = 4
OVERLONG_CUSHION = 4096


def reinforce(
    *,
    baseline: float = 0.0,
    kl: float | KL = 0.0,
    entropy: float = 0.0,
    constraint: Budget | None = None,
    sampler_correction: SamplerCorrection | None = None,
) -> Algorithm:
    """REINFORCE: every token gets the whole return minus a constant. The exact gradient, with much variance.

    Args:
        baseline: the constant, in units of the return.
        kl: strength of the pull to the reference policy: a number (in the reward), or a `KL`; 0 is none.
        entropy: coefficient of the entropy bonus.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
        sampler_correction: weights for tokens that other weights or another engine drew: a `SamplerCorrection`.
    """
    near = held(kl, entropy, constraint, sampler_correction, place="reward")
    return Algorithm(
        name="reinforce",
        title="REINFORCE",
        paper="Williams 1992, Machine Learning 8:229",
        equation=f"{SUMMED}(R(o_i) - {baseline:g}) log pi(o_it)" + near.terms,
        source=Sampled(),
        credit=WholeReturn(baseline=baseline),
        objective=near.weighted(PolicyGradient()),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=ConstantLength(1.0),
    )


def rloo(
    *,
    kl: float | KL = 0.0,
    entropy: float = 0.0,
    constraint: Budget | None = None,
    sampler_correction: SamplerCorrection | None = None,
) -> Algorithm:
    """REINFORCE with the mean of the *other* samples of a prompt as baseline. The exact gradient.

    Args:
        kl: strength of the pull to the reference policy: a number (in the reward), or a `KL`; 0 is none.
        entropy: coefficient of the entropy bonus.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
        sampler_correction: weights for tokens that other weights or another engine drew: a `SamplerCorrection`.
    """
    near = held(kl, entropy, constraint, sampler_correction, place="reward")
    return Algorithm(
        name="rloo",
        title="REINFORCE leave-one-out",
        paper="Ahmadian et al. 2024, arXiv 2402.14740, equation 8",
        equation=f"{SUMMED}(R(o_i) - mean_(j != i) R(o_j)) log pi(o_it)" + near.terms,
        source=Sampled(),
        credit=LeaveOneOut(),
        objective=near.weighted(PolicyGradient()),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=ConstantLength(1.0),
        deviations="kl is off unless set (the paper subtracts beta log(pi/ref) from the return); a number stands "
        "there too.",
    )


def remax(
    *,
    kl: float | KL = 0.0,
    entropy: float = 0.0,
    constraint: Budget | None = None,
    sampler_correction: SamplerCorrection | None = None,
) -> Algorithm:
    """REINFORCE with the return of the prompt's greedy answer as baseline. The exact gradient, from one sample on.

    Args:
        kl: strength of the pull to the reference policy: a number (in the reward), or a `KL`; 0 is none.
        entropy: coefficient of the entropy bonus.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
        sampler_correction: weights for tokens that other weights or another engine drew: a `SamplerCorrection`.
    """
    near = held(kl, entropy, constraint, sampler_correction, place="reward")
    return Algorithm(
        name="remax",
        title="ReMax",
        paper="Li et al. 2023, arXiv 2310.10505, algorithm 1",
        equation=f"{SUMMED}(R(o_i) - R(greedy o)) log pi(o_it)" + near.terms,
        source=Sampled(greedy_baseline=True),
        credit=GreedyBaseline(),
        objective=near.weighted(PolicyGradient()),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=ConstantLength(1.0),
        deviations="kl is off unless set (the paper subtracts a per-token KL from the reward); a number stands there, "
        "and costs the greedy answer nothing. A prompt may have several samples; they share one greedy answer.",
    )


def grpo(
    *,
    clip: float = 0.2,
    clip_high: float | None = None,
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
    """Group-relative policy optimisation: returns standardised within a prompt, a clipped ratio, sequence means.

    Args:
        clip, clip_high: how far below and above 1 a token's ratio is still rewarded (`clip_high` None: the same).
        maximum_kl: stop an update once KL(old, pi), measured in nats per token, exceeds this; None: never.
        kl: strength of the pull to the reference policy: a number (in the loss), or a `KL`; 0 is none.
        entropy: coefficient of the entropy bonus.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
        sampler_correction: weights for tokens that other weights or another engine drew: a `SamplerCorrection`.
        ddof: 0 divides by the group's own deviation (the paper's reading), 1 by `torch.std`'s (other libraries).
        epsilon: added to the deviation, in units of the return.
        epochs, minibatches: optimiser steps on one batch.
    """
    high = clip if clip_high is None else clip_high
    near = held(kl, entropy, constraint, sampler_correction)
    return Algorithm(
        name="grpo",
        title="Group-relative policy optimisation",
        paper="Shao et al. 2024, arXiv 2402.03300, equation 3",
        equation=f"1/N sum_i 1/|o_i| sum_t {clip_term(clip, high)}, {standard_term(ddof, epsilon)}" + near.terms,
        source=Sampled(),
        credit=Standardised(ddof=ddof, epsilon=epsilon),
        objective=near.weighted(ClippedRatio(clip, high)),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=SequenceMean(),
        step=Step(epochs, minibatches, maximum_kl),
        deviations="kl defaults to 0 (the paper: 0.04, k3 in the loss); the deviation is that of the group itself "
        "(libraries with torch.std: ddof=1), and epsilon is added to it (the paper: nothing); every rollout of the "
        "step counts the same, also when some of a group failed.",
    )


def dr_grpo(
    *,
    length: float = 256.0,
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
    """GRPO done right: no division by the deviation, none by the length of the answer.

    Args:
        length: the constant that sums over tokens are divided by; the longest allowed answer is customary.
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
    return Algorithm(
        name="dr_grpo",
        title="GRPO without its length and deviation biases",
        paper="Liu et al. 2025, arXiv 2503.20783",
        equation=f"1/(N*{length:g}) sum_i sum_t {clip_term(clip, high)}, A = R(o_i) - mean_j R(o_j)" + near.terms,
        source=Sampled(),
        credit=SiblingMean(),
        objective=near.weighted(ClippedRatio(clip, high)),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=ConstantLength(length),
        step=Step(epochs, minibatches, maximum_kl),
        deviations="none; its baseline holds the sample itself, so the gradient is (1 - 1/G) times the exact one.",
    )


def dapo(
    *,
    clip: float = 0.2,
    clip_high: float = 0.28,
    maximum_kl: float | None = None,
    ddof: int = 0,
    epsilon: float = 1e-6,
    dynamic_sampling: bool = True,
    maximum_draws: int = MAXIMUM_DRAWS,
    overlong_limit: int | None = None,
    overlong_cushion: int = OVERLONG_CUSHION,
    discard_truncated: bool = False,
    denominator: str = "step",
    entropy: float = 0.0,
    constraint: Budget | None = None,
    sampler_correction: SamplerCorrection | None = None,
    epochs: int = 1,
    minibatches: int = 1,
) -> Algorithm:
    """Decoupled clip and dynamic sampling: clip-higher, token mean, only groups that carry signal, no KL.

    Args:
        clip, clip_high: how far below and above 1 a token's ratio is still rewarded.
        maximum_kl: stop an update once KL(old, pi), measured in nats per token, exceeds this; None: never.
        ddof, epsilon: as in `grpo`.
        dynamic_sampling: draw other prompts in place of those whose samples all earned the same.
        maximum_draws: how many times the prompts of a step may be drawn.
        overlong_limit, overlong_cushion: punish rollouts of more than limit - cushion policy tokens, linearly to -1 at
            the limit; None does not.
        discard_truncated: leave out rollouts that a limit cut off.
        denominator: "step" divides by all tokens of the step (ours), "prompt" by those of each prompt (the paper's
            equation, taken literally).
        entropy: coefficient of the entropy bonus.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
        sampler_correction: weights for tokens that other weights or another engine drew: a `SamplerCorrection`.
        epochs, minibatches: optimiser steps on one batch.
    """
    if not dynamic_sampling:
        off = "dynamic_sampling is off"
        refuse_unread("maximum_draws", maximum_draws, MAXIMUM_DRAWS, off, "set dynamic_sampling=true")
    if overlong_limit is None:
        off = "there is no overlong_limit"
        refuse_unread("overlong_cushion", overlong_cushion, OVERLONG_CUSHION, off, "set overlong_limit")
    reduction, average = token_mean(denominator)
    returns: Returns = TotalReward(discard_truncated=discard_truncated)
    shaping = ""
    if overlong_limit is not None:
        returns = OverlongPenalty(overlong_limit, overlong_cushion, returns)
        shaping = f", R += clip(({overlong_limit} - {overlong_cushion} - |o|) / {overlong_cushion}, -1, 0)"
    near = held(0.0, entropy, constraint, sampler_correction)
    return Algorithm(
        name="dapo",
        title="Decoupled clip and dynamic sampling policy optimisation",
        paper="Yu et al. 2025, arXiv 2503.14476, equation 8",
        equation=average
        + f"{clip_term(clip, clip_high)}, {standard_term(ddof, epsilon)}{shaping}"
        + (", groups with 0 < std only" if dynamic_sampling else "")
        + near.terms,
        source=Sampled(discard_without_signal=dynamic_sampling, maximum_draws=maximum_draws if dynamic_sampling else 1),
        credit=Standardised(ddof=ddof, epsilon=epsilon, returns=returns),
        objective=near.weighted(ClippedRatio(clip, clip_high)),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=reduction,
        step=Step(epochs, minibatches, maximum_kl),
        deviations="the denominator runs over the whole step (equation 8 writes that of one prompt: "
        "denominator='prompt'); the deviation is that of the group itself (ddof=1 is torch.std's), and epsilon is "
        "added to it; the overlong punishment is off unless a limit is given; discarded truncated rollouts leave the "
        "group's mean too.",
    )


def clone(*, epochs: int = 1, minibatches: int = 1, entropy: float = 0.0) -> Algorithm:
    """Behaviour cloning: maximum likelihood of demonstrated answers.

    Args:
        epochs, minibatches: optimiser steps on one batch.
        entropy: coefficient of the entropy bonus.
    """
    near = held(0.0, entropy)
    return Algorithm(
        name="clone",
        title="Behaviour cloning",
        paper="Pomerleau 1991; Ross and Bagnell 2010",
        equation="1/(sum_i |o_i|) sum_i sum_t log pi(o_it), o demonstrated" + near.terms,
        source=Demonstrated(),
        credit=EveryToken(),
        objective=NegativeLogLikelihood(),
        regularisers=near.regularisers,
        reduction=TokenMean(),
        step=Step(epochs, minibatches),
    )
