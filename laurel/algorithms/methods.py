"""The named methods of the spine: one short function each. Its signature is its settings, its docstring its story.

R(o) is everything a rollout o earned; pi, old and ref are the policy now, at the start of the step, and the reference.
An expectation over prompts q stands in front of every equation.
"""

from __future__ import annotations

from laurel.algorithms.algorithm import Algorithm, Demonstrated, Sampled, Step
from laurel.algorithms.terms import clip_term, refuse_unread, regularised, regularisers, standard_term
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
from laurel.errors import ConfigurationError
from laurel.objectives import (
    ClippedRatio,
    ConstantLength,
    NegativeLogLikelihood,
    PolicyGradient,
    PromptMean,
    Reduction,
    SequenceMean,
    TokenMean,
)

SUMMED = "1/N sum_i sum_t "
MAXIMUM_DRAWS = 4
OVERLONG_CUSHION = 4096


def reinforce(*, baseline: float = 0.0, kl: float = 0.0, kl_estimator: str = "k3", entropy: float = 0.0) -> Algorithm:
    """REINFORCE: every token gets the whole return minus a constant. The exact gradient, with much variance.

    Args:
        baseline: the constant, in units of the return.
        kl, kl_estimator: strength of the pull to the reference policy, and "k2" or "k3"; 0 needs no reference.
        entropy: coefficient of the entropy bonus.
    """
    return Algorithm(
        name="reinforce",
        title="REINFORCE",
        paper="Williams 1992, Machine Learning 8:229",
        equation=f"{SUMMED}(R(o_i) - {baseline:g}) log pi(o_it)" + regularised(kl, kl_estimator, entropy),
        source=Sampled(),
        credit=WholeReturn(baseline=baseline),
        objective=PolicyGradient(),
        regularisers=regularisers(kl, kl_estimator, entropy),
        reduction=ConstantLength(1.0),
    )


def rloo(*, kl: float = 0.0, kl_estimator: str = "k3", entropy: float = 0.0) -> Algorithm:
    """REINFORCE with the mean of the *other* samples of a prompt as baseline. The exact gradient.

    Args:
        kl, kl_estimator: strength of the pull to the reference policy, and "k2" or "k3"; 0 needs no reference.
        entropy: coefficient of the entropy bonus.
    """
    return Algorithm(
        name="rloo",
        title="REINFORCE leave-one-out",
        paper="Ahmadian et al. 2024, arXiv 2402.14740, equation 8",
        equation=f"{SUMMED}(R(o_i) - mean_(j != i) R(o_j)) log pi(o_it)" + regularised(kl, kl_estimator, entropy),
        source=Sampled(),
        credit=LeaveOneOut(),
        objective=PolicyGradient(),
        regularisers=regularisers(kl, kl_estimator, entropy),
        reduction=ConstantLength(1.0),
        deviations="the paper subtracts beta log(pi/ref) from the return; here the penalty is off unless kl is set, "
        "and then it stands in the loss.",
    )


def remax(*, kl: float = 0.0, kl_estimator: str = "k3", entropy: float = 0.0) -> Algorithm:
    """REINFORCE with the return of the prompt's greedy answer as baseline. The exact gradient, from one sample on.

    Args:
        kl, kl_estimator: strength of the pull to the reference policy, and "k2" or "k3"; 0 needs no reference.
        entropy: coefficient of the entropy bonus.
    """
    return Algorithm(
        name="remax",
        title="ReMax",
        paper="Li et al. 2023, arXiv 2310.10505, algorithm 1",
        equation=f"{SUMMED}(R(o_i) - R(greedy o)) log pi(o_it)" + regularised(kl, kl_estimator, entropy),
        source=Sampled(greedy_baseline=True),
        credit=GreedyBaseline(),
        objective=PolicyGradient(),
        regularisers=regularisers(kl, kl_estimator, entropy),
        reduction=ConstantLength(1.0),
        deviations="the paper subtracts a per-token KL from the reward; here the penalty is in the loss, off unless kl "
        "is set. A prompt may have several samples; they share one greedy answer.",
    )


def grpo(
    *,
    clip: float = 0.2,
    clip_high: float | None = None,
    kl: float = 0.0,
    kl_estimator: str = "k3",
    entropy: float = 0.0,
    ddof: int = 0,
    epsilon: float = 1e-6,
    epochs: int = 1,
    minibatches: int = 1,
) -> Algorithm:
    """Group-relative policy optimisation: returns standardised within a prompt, a clipped ratio, sequence means.

    Args:
        clip, clip_high: how far below and above 1 a token's ratio is still rewarded (`clip_high` None: the same).
        kl, kl_estimator: strength of the pull to the reference policy, and "k2" or "k3"; 0 needs no reference.
        entropy: coefficient of the entropy bonus.
        ddof: 0 divides by the group's own deviation (the paper's reading), 1 by `torch.std`'s (other libraries).
        epsilon: added to the deviation, in units of the return.
        epochs, minibatches: optimiser steps on one batch.
    """
    high = clip if clip_high is None else clip_high
    return Algorithm(
        name="grpo",
        title="Group-relative policy optimisation",
        paper="Shao et al. 2024, arXiv 2402.03300, equation 3",
        equation=f"1/N sum_i 1/|o_i| sum_t {clip_term(clip, high)}, {standard_term(ddof, epsilon)}"
        + regularised(kl, kl_estimator, entropy),
        source=Sampled(),
        credit=Standardised(ddof=ddof, epsilon=epsilon),
        objective=ClippedRatio(clip, high),
        regularisers=regularisers(kl, kl_estimator, entropy),
        reduction=SequenceMean(),
        step=Step(epochs, minibatches),
        deviations="kl defaults to 0 (the paper: 0.04); epsilon is added to the deviation (the paper: nothing); every "
        "rollout of the step counts the same, also when some of a group failed.",
    )


def dr_grpo(
    *,
    length: float = 256.0,
    clip: float = 0.2,
    clip_high: float | None = None,
    kl: float = 0.0,
    kl_estimator: str = "k3",
    entropy: float = 0.0,
    epochs: int = 1,
    minibatches: int = 1,
) -> Algorithm:
    """GRPO done right: no division by the deviation, none by the length of the answer.

    Args:
        length: the constant that sums over tokens are divided by; the longest allowed answer is customary.
        clip, clip_high: how far below and above 1 a token's ratio is still rewarded (`clip_high` None: the same).
        kl, kl_estimator: strength of the pull to the reference policy, and "k2" or "k3"; 0 needs no reference.
        entropy: coefficient of the entropy bonus.
        epochs, minibatches: optimiser steps on one batch.
    """
    high = clip if clip_high is None else clip_high
    return Algorithm(
        name="dr_grpo",
        title="GRPO without its length and deviation biases",
        paper="Liu et al. 2025, arXiv 2503.20783",
        equation=f"1/(N*{length:g}) sum_i sum_t {clip_term(clip, high)}, A = R(o_i) - mean_j R(o_j)"
        + regularised(kl, kl_estimator, entropy),
        source=Sampled(),
        credit=SiblingMean(),
        objective=ClippedRatio(clip, high),
        regularisers=regularisers(kl, kl_estimator, entropy),
        reduction=ConstantLength(length),
        step=Step(epochs, minibatches),
        deviations="none; its baseline holds the sample itself, so the gradient is (1 - 1/G) times the exact one.",
    )


def dapo(
    *,
    clip: float = 0.2,
    clip_high: float = 0.28,
    ddof: int = 0,
    epsilon: float = 1e-6,
    dynamic_sampling: bool = True,
    maximum_draws: int = MAXIMUM_DRAWS,
    overlong_limit: int | None = None,
    overlong_cushion: int = OVERLONG_CUSHION,
    discard_truncated: bool = False,
    denominator: str = "step",
    entropy: float = 0.0,
    epochs: int = 1,
    minibatches: int = 1,
) -> Algorithm:
    """Decoupled clip and dynamic sampling: clip-higher, token mean, only groups that carry signal, no KL.

    Args:
        clip, clip_high: how far below and above 1 a token's ratio is still rewarded.
        ddof, epsilon: as in `grpo`.
        dynamic_sampling: draw other prompts in place of those whose samples all earned the same.
        maximum_draws: how many times the prompts of a step may be drawn.
        overlong_limit, overlong_cushion: punish rollouts of more than limit - cushion policy tokens, linearly to -1 at
            the limit; None does not.
        discard_truncated: leave out rollouts that a limit cut off.
        denominator: "step" divides by all tokens of the step (ours), "prompt" by those of each prompt.
        entropy: coefficient of the entropy bonus.
        epochs, minibatches: optimiser steps on one batch.
    """
    reductions: dict[str, tuple[Reduction, str]] = {
        "step": (TokenMean(), "1/(sum_i |o_i|) sum_i sum_t "),
        "prompt": (PromptMean(), "1/P sum_q 1/(sum_(i in q) |o_i|) sum_i sum_t "),
    }
    if denominator not in reductions:
        raise ConfigurationError(f"dapo: unknown denominator {denominator!r}.", hint="use 'step' or 'prompt'.")
    if not dynamic_sampling:
        off = "dynamic_sampling is off"
        refuse_unread("maximum_draws", maximum_draws, MAXIMUM_DRAWS, off, "set dynamic_sampling=true")
    if overlong_limit is None:
        off = "there is no overlong_limit"
        refuse_unread("overlong_cushion", overlong_cushion, OVERLONG_CUSHION, off, "set overlong_limit")
    reduction, average = reductions[denominator]
    returns: Returns = TotalReward(discard_truncated=discard_truncated)
    shaping = ""
    if overlong_limit is not None:
        returns = OverlongPenalty(overlong_limit, overlong_cushion, returns)
        shaping = f", R += clip(({overlong_limit} - {overlong_cushion} - |o|) / {overlong_cushion}, -1, 0)"
    return Algorithm(
        name="dapo",
        title="Decoupled clip and dynamic sampling policy optimisation",
        paper="Yu et al. 2025, arXiv 2503.14476, equation 8",
        equation=average
        + f"{clip_term(clip, clip_high)}, {standard_term(ddof, epsilon)}{shaping}"
        + (", groups with 0 < std only" if dynamic_sampling else "")
        + regularised(0.0, "k3", entropy),
        source=Sampled(discard_without_signal=dynamic_sampling, maximum_draws=maximum_draws if dynamic_sampling else 1),
        credit=Standardised(ddof=ddof, epsilon=epsilon, returns=returns),
        objective=ClippedRatio(clip, clip_high),
        regularisers=regularisers(0.0, "k3", entropy),
        reduction=reduction,
        step=Step(epochs, minibatches),
        deviations="epsilon is added to the deviation; the overlong punishment is off unless a limit is given; "
        "discarded truncated rollouts leave the group's mean too.",
    )


def clone(*, epochs: int = 1, minibatches: int = 1, entropy: float = 0.0) -> Algorithm:
    """Behaviour cloning: maximum likelihood of demonstrated answers.

    Args:
        epochs, minibatches: optimiser steps on one batch.
        entropy: coefficient of the entropy bonus.
    """
    return Algorithm(
        name="clone",
        title="Behaviour cloning",
        paper="Pomerleau 1991; Ross and Bagnell 2010",
        equation="1/(sum_i |o_i|) sum_i sum_t log pi(o_it), o demonstrated" + regularised(0.0, "k3", entropy),
        source=Demonstrated(),
        credit=EveryToken(),
        objective=NegativeLogLikelihood(),
        regularisers=regularisers(0.0, "k3", entropy),
        reduction=TokenMean(),
        step=Step(epochs, minibatches),
    )
