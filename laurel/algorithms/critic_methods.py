"""Named methods whose credit comes from a learned critic. Notation as in `methods`; V is the critic."""

from __future__ import annotations

from laurel.algorithms.algorithm import Algorithm, Sampled, Step
from laurel.algorithms.terms import clip_term, regularised, regularisers
from laurel.credit import GeneralisedAdvantage, TurnAdvantage
from laurel.objectives import ClippedRatio, TokenMean

TOKENS = "1/(sum_i |o_i|) sum_i sum_t "


def ppo(
    *,
    decay: float = 1.0,
    critic_decay: float | None = None,
    discount: float = 1.0,
    standardise: bool = False,
    clip: float = 0.2,
    clip_high: float | None = None,
    maximum_kl: float | None = None,
    kl: float = 0.0,
    kl_estimator: str = "k3",
    entropy: float = 0.0,
    epochs: int = 4,
    minibatches: int = 1,
) -> Algorithm:
    """Proximal policy optimisation: a critic's generalised advantages, a clipped ratio, several passes over a batch.

    Args:
        decay: lambda; 1 is the return minus V(s_t), which is unbiased whatever the critic says, and loses nothing in
            one turn, where no states merge. Below 1 it trusts the critic: for tasks of several turns.
        critic_decay: lambda of the critic's own targets; None for the same.
        discount: gamma per token.
        standardise: advantages of a step minus their mean, over their deviation (customary, biased).
        clip, clip_high: how far below and above 1 a token's ratio is still rewarded (`clip_high` None: the same).
        maximum_kl: stop an update once KL(old, pi), measured in nats per token, exceeds this; None: never.
        kl, kl_estimator: strength of the pull to the reference policy, and "k2" or "k3"; 0 needs no reference.
        entropy: coefficient of the entropy bonus.
        epochs, minibatches: optimiser steps on one batch.
    """
    high = clip if clip_high is None else clip_high
    advantage = f"A = sum_k ({discount:g} * {decay:g})^k (r + {discount:g} V(s_(t+k+1)) - V(s_(t+k)))"
    return Algorithm(
        name="ppo",
        title="Proximal policy optimisation",
        paper="Schulman et al. 2017, arXiv 1707.06347, equations 7 and 11; advantages: arXiv 1506.02438",
        equation=f"{TOKENS}{clip_term(clip, high)}, {advantage}{', standardised over the step' if standardise else ''}"
        + regularised(kl, kl_estimator, entropy),
        source=Sampled(),
        credit=GeneralisedAdvantage(decay, critic_decay, discount, standardise),
        objective=ClippedRatio(clip, high),
        regularisers=regularisers(kl, kl_estimator, entropy),
        reduction=TokenMean(),
        step=Step(epochs, minibatches, maximum_kl),
        deviations="decay defaults to 1 (the paper: 0.95), because token prefixes never merge; the critic has its own "
        "weights, optimiser and learning rate (the paper: one loss for both) and no value clip unless asked.",
    )


def turn_ppo(
    *,
    decay: float = 1.0,
    discount: float = 1.0,
    clip: float = 0.2,
    clip_high: float | None = None,
    maximum_kl: float | None = None,
    kl: float = 0.0,
    kl_estimator: str = "k3",
    entropy: float = 0.0,
    epochs: int = 4,
    minibatches: int = 1,
) -> Algorithm:
    """PPO whose decisions are whole turns: the tokens of a turn share what the turn was worth.

    Args:
        decay, discount: lambda and gamma per turn, not per token; what the environment says costs neither.
        clip, clip_high: how far below and above 1 a token's ratio is still rewarded (`clip_high` None: the same).
        maximum_kl: stop an update once KL(old, pi), measured in nats per token, exceeds this; None: never.
        kl, kl_estimator: strength of the pull to the reference policy, and "k2" or "k3"; 0 needs no reference.
        entropy: coefficient of the entropy bonus.
        epochs, minibatches: optimiser steps on one batch.
    """
    high = clip if clip_high is None else clip_high
    advantage = f"A = r + {discount:g} (V(next turn) + {decay:g} A(next turn)) - V(this turn)"
    return Algorithm(
        name="turn_ppo",
        title="Proximal policy optimisation over turns",
        paper="Zhou et al. 2024 (ArCHer), arXiv 2402.19446, section 3; Schulman et al. 2017, arXiv 1707.06347",
        equation=f"{TOKENS}{clip_term(clip, high)}, {advantage}" + regularised(kl, kl_estimator, entropy),
        source=Sampled(),
        credit=TurnAdvantage(decay, discount),
        objective=ClippedRatio(clip, high),
        regularisers=regularisers(kl, kl_estimator, entropy),
        reduction=TokenMean(),
        step=Step(epochs, minibatches, maximum_kl),
        deviations="ArCHer learns its turn-level critic off-policy from replayed turns and has a second, token-level "
        "update; here the critic is fitted to the turns just drawn, and a clipped ratio per token does the update.",
    )
