"""Named methods that learn from judged answers. Their pairs are all better-worse pairs below a prompt, if nothing else
is said.

w and l are the better and the worse answer of a pair, |y| counts tokens, and an expectation over prompts, over the
pairs of each, stands in front of every equation. Reference log-probabilities are computed when an answer is first met
and kept for the rest of the run.
"""

from __future__ import annotations

from laurel.algorithms.algorithm import Algorithm, Compared, Sampled, Step
from laurel.credit import Preferred, Thumbs
from laurel.objectives import (
    Desirability,
    DirectPreference,
    IdentityPreference,
    OddsRatio,
    PromptMean,
    SequenceMean,
    SimplePreference,
)

RATIO = "log pi(y)/ref(y)"


def dpo(
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    robust: bool = False,
    per_token: bool = False,
    epochs: int = 1,
    minibatches: int = 1,
) -> Algorithm:
    """Direct preference optimisation: the policy is its own Bradley-Terry reward model, beta log pi/ref.

    Args:
        beta: strength of the pull to the reference; with `per_token` about |y| times larger values do the same.
        label_smoothing: the probability that a label is the wrong way round: 0 is plain, above it the conservative
            form.
        robust: in place of the conservative form the one that is unbiased under such labels.
        per_token: divide the log-ratio of an answer by its length.
        epochs, minibatches: optimiser steps on one batch.
    """
    reward = f"{RATIO}/|y|" if per_token else RATIO
    terms = {
        "plain": "log sigmoid(m)",
        "conservative": f"{1 - label_smoothing:g} log sigmoid(m) + {label_smoothing:g} log sigmoid(-m)",
        "robust": f"({1 - label_smoothing:g} log sigmoid(m) - {label_smoothing:g} log sigmoid(-m)) / "
        f"{1 - 2 * label_smoothing:g}",
    }
    form = "robust" if robust else "conservative" if label_smoothing else "plain"
    papers = {
        "plain": "Rafailov et al. 2023, arXiv 2305.18290, equation 7",
        "conservative": "Rafailov et al. 2023, arXiv 2305.18290; Mitchell 2023 (noisy preferences), equation 3",
        "robust": "Rafailov et al. 2023, arXiv 2305.18290; Chowdhury et al. 2024, arXiv 2403.00409, equation 12",
    }
    return Algorithm(
        name="dpo",
        title="Direct preference optimisation",
        paper=papers[form] + ("; Lambert et al. 2024, arXiv 2411.15124 (per token)" if per_token else ""),
        equation=f"{terms[form]}, m = {beta:g} (r(w) - r(l)), r(y) = {reward}",
        source=Compared(),
        credit=Preferred(),
        objective=DirectPreference(beta, label_smoothing, robust, per_token),
        reduction=PromptMean(),
        step=Step(epochs, minibatches),
        deviations="none for pairs; the pairs of a ranking count together as one pair does.",
    )


def online_dpo(*, beta: float = 0.1, label_smoothing: float = 0.0, epochs: int = 1, minibatches: int = 1) -> Algorithm:
    """DPO on what the policy writes now: the best and the worst sample of each prompt, by the reward, are a pair.

    Args:
        beta: strength of the pull to the reference, the policy at the start of the run.
        label_smoothing: the probability that the reward has a pair the wrong way round.
        epochs, minibatches: optimiser steps on one batch.
    """
    term = f"{1 - label_smoothing:g} log sigmoid(m) + {label_smoothing:g} log sigmoid(-m)"
    return Algorithm(
        name="online_dpo",
        title="Direct preference optimisation on the policy's own samples",
        paper="Guo et al. 2024, arXiv 2402.04792",
        equation=f"{term if label_smoothing else 'log sigmoid(m)'}, m = {beta:g} (r(w) - r(l)), r(y) = {RATIO}, "
        "w, l = samples with the greatest and the least R",
        source=Sampled(),
        credit=Preferred(extremes=True),
        objective=DirectPreference(beta, label_smoothing),
        reduction=PromptMean(),
        step=Step(epochs, minibatches),
        deviations="the paper draws two samples and asks a language model; here any reward judges any number of them.",
    )


def ipo(*, tau: float = 0.1, per_token: bool = True, epochs: int = 1, minibatches: int = 1) -> Algorithm:
    """Identity preference optimisation: a finite margin, also where a preference is certain.

    Args:
        tau: strength of the pull to the reference; the margin aimed at is 1 / (2 tau).
        per_token: divide the log-ratio of an answer by its length; false is the equation of the paper.
        epochs, minibatches: optimiser steps on one batch.
    """
    reward = f"{RATIO}/|y|" if per_token else RATIO
    return Algorithm(
        name="ipo",
        title="Identity preference optimisation",
        paper="Azar et al. 2023, arXiv 2310.12036, equation 17",
        equation=f"-(r(w) - r(l) - 1/(2 * {tau:g}))^2, r(y) = {reward}",
        source=Compared(),
        credit=Preferred(),
        objective=IdentityPreference(tau, per_token),
        reduction=PromptMean(),
        step=Step(epochs, minibatches),
        deviations="log-ratios are divided by the answer's length, as the authors' experiments are said to do; the "
        "paper does not write it."
        if per_token
        else "none for pairs; the pairs of a ranking count together as one pair does.",
    )


def kto(
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    threshold: float = 0.5,
    epochs: int = 1,
    minibatches: int = 1,
) -> Algorithm:
    """Kahneman-Tversky optimisation: single answers that are good or bad, judged against the average divergence.

    Args:
        beta: strength of the pull to the reference.
        desirable_weight, undesirable_weight: how much a good and a bad answer counts; the paper asks for n_D lambda_D /
            n_U lambda_U between 1 and 4/3.
        threshold: a score above is good, below bad, at it left out; thumbs and the sides of a pair score 1 and 0.
        epochs, minibatches: optimiser steps on one batch.
    """
    return Algorithm(
        name="kto",
        title="Kahneman-Tversky optimisation",
        paper="Ethayarajh et al. 2024, arXiv 2402.01306, equation 8",
        equation=f"good: {desirable_weight:g} sigmoid({beta:g} (r(y) - z)), bad: {undesirable_weight:g} "
        f"sigmoid({beta:g} (z - r(y))), r(y) = {RATIO}, z = max(0, mean r(answers to other prompts))",
        source=Compared(mismatched=True),
        credit=Thumbs(threshold),
        objective=Desirability(beta, desirable_weight, undesirable_weight),
        reduction=SequenceMean(),
        step=Step(epochs, minibatches),
        deviations="none; each prompt is joined with an answer to the next prompt of the step to estimate z.",
    )


def orpo(*, weight: float = 0.1, epochs: int = 1, minibatches: int = 1) -> Algorithm:
    """Odds ratio preference optimisation: cloning of the better answer, and the odds against the worse one.

    Args:
        weight: lambda, of the odds ratio beside the likelihood.
        epochs, minibatches: optimiser steps on one batch.
    """
    return Algorithm(
        name="orpo",
        title="Odds ratio preference optimisation, without a reference",
        paper="Hong et al. 2024, arXiv 2403.07691, equations 6 and 7",
        equation=f"log p(w) + {weight:g} log sigmoid(log odds(w) - log odds(l)), p(y) = pi(y)^(1/|y|), "
        "odds(y) = p(y)/(1 - p(y))",
        source=Compared(),
        credit=Preferred(),
        objective=OddsRatio(weight),
        reduction=PromptMean(),
        step=Step(epochs, minibatches),
        deviations="the likelihood is that of the answer alone, averaged per answer; other libraries count the prompt.",
    )


def spin(*, strength: float = 0.1, epochs: int = 1, minibatches: int = 1) -> Algorithm:
    """Self-play fine-tuning: the policy learns to tell the demonstrated answer from its own of before the update.

    It rests where its samples cannot be told from demonstrations: its expected gradient is 0 if and only if the policy
    equals the data.

    Args:
        strength: lambda, of the pull to the policy before the update.
        epochs, minibatches: optimiser steps on one batch; with one step the opponent is the policy itself, and every
            pair counts the same.
    """
    return Algorithm(
        name="spin",
        title="Self-play fine-tuning",
        paper="Chen et al. 2024, arXiv 2401.01335, equation 4.7",
        equation=f"log sigmoid({strength:g} (r(d) - r(o))), r(y) = log pi(y)/old(y), d demonstrated, o drawn from old",
        source=Sampled(self_play=True),
        credit=Preferred(),
        objective=DirectPreference(strength, against_old=True),
        reduction=PromptMean(),
        step=Step(epochs, minibatches),
        deviations="the paper draws from one opponent for a whole pass over the data; here the opponent is the policy "
        "before every update.",
    )


def simpo(*, beta: float = 2.0, margin: float = 1.0, epochs: int = 1, minibatches: int = 1) -> Algorithm:
    """Simple preference optimisation: the mean log-probability of a token is the reward, and has to win by a margin.

    Args:
        beta: scale of the reward; the paper uses 2 to 10.
        margin: gamma, by how much the better answer is to be ahead; the paper uses 0.3 to 1.6.
        epochs, minibatches: optimiser steps on one batch.
    """
    return Algorithm(
        name="simpo",
        title="Simple preference optimisation, without a reference",
        paper="Meng et al. 2024, arXiv 2405.14734, equation 6",
        equation=f"log sigmoid(r(w) - r(l) - {margin:g}), r(y) = {beta:g} log pi(y)/|y|",
        source=Compared(),
        credit=Preferred(),
        objective=SimplePreference(beta, margin),
        reduction=PromptMean(),
        step=Step(epochs, minibatches),
        deviations="none for pairs; the pairs of a ranking count together as one pair does.",
    )
