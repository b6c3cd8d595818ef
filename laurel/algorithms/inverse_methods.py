"""Named methods that recover a reward from demonstrations, and with it the policy that would have written them.

E(y) is how likely the expert's answer to a prompt is y, r a reward that is fitted inside the run, on the demonstration
of each prompt against the policy's samples for it, before it pays for these. What it is read from and how it is fitted
are settings of the run (`laurel.RecoverySettings`); at the end it is saved, and is a `reward` for another run.
"""

from __future__ import annotations

from laurel.algorithms.algorithm import Algorithm, Demonstrated, Sampled, Step
from laurel.algorithms.constraints import KL, Held, held
from laurel.algorithms.terms import clip_term
from laurel.credit import EveryToken, LeaveOneOut
from laurel.objectives import (
    ClippedRatio,
    ConstantLength,
    Discriminator,
    InverseSoftQ,
    MaximumEntropy,
    RewardForm,
    ShapedDiscriminator,
    TokenMean,
)

PAID = "1/N sum_i sum_t {clip}, A = R(o_i) - mean_(j != i) R(o_j), R = "
WHOLE = "a leave-one-out baseline and a clipped ratio move the policy (the paper: TRPO)"


def gail(
    *,
    pay: str = "log_odds",
    clip: float = 0.2,
    kl: float | KL = 0.0,
    entropy: float = 0.0,
    epochs: int = 1,
    minibatches: int = 1,
) -> Algorithm:
    """Generative adversarial imitation: the policy is paid for what a discriminator takes for the expert's.

    At its best the discriminator's logit is log E(y)/pi(y), so that the policy moves along KL(pi, E): it keeps to what
    the expert would say, where cloning covers everything that it might.

    Args:
        pay: "log_odds", the logit itself; or "logistic", -log(1 - D), the paper's, which is nearly flat where an answer
            is plainly not the expert's.
        clip: how far from 1 a token's ratio is still rewarded, on either side.
        kl: strength of the pull to the reference policy: a number (in the reward), or a `KL`; 0 is none.
        entropy: coefficient of the entropy bonus.
        epochs, minibatches: optimiser steps on one batch.
    """
    paid = {"log_odds": "r", "logistic": "log(1 + exp r)"}
    form = Discriminator(pay)
    return _imitating(
        form,
        name="gail",
        title="Generative adversarial imitation learning",
        paper="Ho and Ermon 2016, arXiv 1606.03476, algorithm 1",
        pays=f"{paid[pay]}, r at max E_E[log sigmoid(r)] + E_pi[log sigmoid(-r)]",
        deviations=f"answers are told apart as wholes (the paper: single actions); {WHOLE}"
        + ("; the pay is the log-odds of D (the paper: -log(1 - D))." if pay == "log_odds" else "."),
        near=held(kl, entropy, place="reward"),
        clip=clip,
        step=Step(epochs, minibatches),
    )


def airl(*, discount: float = 1.0, clip: float = 0.2, epochs: int = 1, minibatches: int = 1) -> Algorithm:
    """Adversarial inverse reinforcement learning: a discriminator built so that what it learns is a reward.

    Token by token it holds f_t against log pi; f is the reward g of the answer, shaped by a potential h of the states
    on the way. At rest f_t = log E(o_t|s_t), and g is the expert's reward up to a constant of the prompt.

    Args:
        discount: gamma, per token; 1 for a reward that does not mind the length of an answer.
        clip: how far from 1 a token's ratio is still rewarded, on either side.
        epochs, minibatches: optimiser steps on one batch.
    """
    form = ShapedDiscriminator(discount)
    return _imitating(
        form,
        name="airl",
        title="Adversarial inverse reinforcement learning",
        paper="Fu, Luo and Levine 2017, arXiv 1710.11248, algorithm 1",
        pays=f"sum_t {discount:g}^t (f_t - log pi(o_t)), f_t = {discount:g} h(s_(t+1)) - h(s_t), at the end "
        "f_T = g(o) - h(s_T), f at max E_E[sum_t log sigmoid(f_t - log pi)] + E_pi[sum_t log sigmoid(log pi - f_t)]",
        deviations="g is read where the answer ends, and not at every token: prefixes never merge, so a reward of "
        f"tokens could be any part of the potential; {WHOLE}, on the return of whole answers.",
        near=Held(),
        clip=clip,
        step=Step(epochs, minibatches),
    )


def max_ent_irl(
    *,
    temperature: float = 1.0,
    regulariser: float = 0.1,
    clip: float = 0.2,
    epochs: int = 1,
    minibatches: int = 1,
) -> Algorithm:
    """Maximum-entropy inverse reinforcement learning: the reward under which the demonstrations are most likely.

    Its gradient is the expert's expectation minus the policy's, for the policy of greatest entropy under it; the two
    are moved in turn.

    Args:
        temperature: tau, reward per nat of the policy's entropy; the policy aimed at is exp(r / tau) / Z.
        regulariser: c, of the squared reward. 0 is the likelihood itself, which no finite reward maximises where the
            expert never says what the policy may.
        clip: how far from 1 a token's ratio is still rewarded, on either side.
        epochs, minibatches: optimiser steps on one batch.
    """
    form = MaximumEntropy(temperature, regulariser)
    return _imitating(
        form,
        name="max_ent_irl",
        title="Maximum-entropy inverse reinforcement learning",
        paper="Ziebart et al. 2008 (AAAI), equation 6; Finn, Levine and Abbeel 2016, arXiv 1603.00448",
        pays=f"r - {temperature:g} log pi(o), r at max E_E[r] - E_pi[r] - {regulariser / 2:g} (E_E[r^2] + E_pi[r^2])",
        deviations="a neural reward of whole answers (Ziebart: linear in features); the partition function is "
        "estimated by samples of the policy as it is, without importance weights (Finn: with them).",
        near=Held(),
        clip=clip,
        step=Step(epochs, minibatches),
    )


def _imitating(
    form: RewardForm,
    *,
    name: str,
    title: str,
    paper: str,
    pays: str,
    deviations: str,
    near: Held,
    clip: float,
    step: Step,
) -> Algorithm:
    """The policy's side, which all of them share: the exact gradient of what it is paid."""
    return Algorithm(
        name=name,
        title=title,
        paper=paper,
        equation=PAID.format(clip=clip_term(clip, clip)) + pays + near.terms,
        source=Sampled(recovers=form),
        credit=LeaveOneOut(),
        objective=ClippedRatio(clip, clip),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=ConstantLength(1.0),
        step=step,
        deviations=deviations,
    )


def iq_learn(*, regulariser: float = 0.1, discount: float = 1.0, epochs: int = 1, minibatches: int = 1) -> Algorithm:
    """Inverse soft Q-learning on demonstrations alone: cloning whose logits are also the soft Q-function of a reward.

    The reward that it recovers is in the policy: `laurel.policy.SoftQReward` reads it, token by token, and pays it to
    another.

    Args:
        regulariser: lambda, of the squared reward; 0 is cloning. The paper's 1/(4 alpha).
        discount: gamma, per token.
        epochs, minibatches: optimiser steps on one batch.
    """
    return Algorithm(
        name="iq_learn",
        title="Inverse soft Q-learning",
        paper="Garg et al. 2021, arXiv 2106.12142; Wulfmeier et al. 2024, arXiv 2409.01369",
        equation=f"1/(sum_i |o_i|) sum_i sum_t log pi(o_it) - {regulariser:g} r_it^2, "
        f"r_t = log pi(o_t) + V(s_t) - {discount:g} V(s_(t+1)), V = logsumexp of the logits, 0 after the end, "
        "o demonstrated",
        source=Demonstrated(),
        credit=EveryToken(),
        objective=InverseSoftQ(regulariser, discount),
        reduction=TokenMean(),
        step=Step(epochs, minibatches),
        deviations="offline, chi-squared form, entropy temperature 1; the mean is over the tokens of the step; the "
        "value after an answer's end is 0 (IQ-Learn's code keeps absorbing states).",
    )
