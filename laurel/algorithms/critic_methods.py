"""Named methods whose credit comes from a learned critic. Notation as in `methods`; V is the critic."""

from __future__ import annotations

from typing import Literal, get_args

from laurel.algorithms.algorithm import Algorithm, Sampled, Step
from laurel.algorithms.constraints import KL, held
from laurel.algorithms.terms import clip_term, refuse_unread
from laurel.credit import GeneralisedAdvantage, Retrace, TurnAdvantage, VTrace
from laurel.errors import ConfigurationError
from laurel.objectives import Budget, ClippedRatio, SamplerCorrection, TokenMean

TOKENS = "1/(sum_i |o_i|) sum_i sum_t "

Values = Literal["gae", "vtrace", "retrace"]

SOURCES: dict[Values, str] = {"gae": "1506.02438", "vtrace": "1802.01561", "retrace": "1606.02647"}
"""The paper of each way to values, on arXiv."""


def ppo(
    *,
    values: Values = "gae",
    decay: float = 1.0,
    critic_decay: float | None = None,
    discount: float = 1.0,
    bootstrap: bool = True,
    standardise: bool = False,
    clip: float = 0.2,
    clip_high: float | None = None,
    maximum_kl: float | None = None,
    kl: float | KL = 0.0,
    entropy: float = 0.0,
    constraint: Budget | None = None,
    sampler_correction: SamplerCorrection | None = None,
    epochs: int = 4,
    minibatches: int = 1,
) -> Algorithm:
    """Proximal policy optimisation: a critic's generalised advantages, a clipped ratio, several passes over a batch.

    Args:
        values: "gae" takes the experience for the policy's own. "vtrace" and "retrace" take it from whoever drew it,
            older weights or another sampler, and weigh every token by how likely it has become since, bounded by 1
            ("vtrace": little noise, and values of a policy in between) or not ("retrace": the values of the policy
            itself). In fresh experience and at decay 1 they are "gae" for one more forward pass.
        decay: lambda; 1 is the return minus V(s_t), which is unbiased whatever the critic says, and loses nothing in
            one turn, where no states merge. Below 1 it trusts the critic: for tasks of several turns.
        critic_decay: lambda of the critic's own targets; None for the same. With "gae" only.
        discount: gamma per token.
        bootstrap: a rollout that a limit cut off would have gone on: what would have followed is worth V(its last
            token). No rollout ever teaches the critic that value, so where most are cut off values feed on themselves
            and being cut off pays. False: nothing follows, as where the limit is a rule of the task
            (arXiv 1712.00378).
        standardise: advantages of a step minus their mean, over their deviation (customary, biased).
        clip, clip_high: how far below and above 1 a token's ratio is still rewarded (`clip_high` None: the same).
        maximum_kl: stop an update once KL(old, pi), measured in nats per token, exceeds this; None: never.
        kl: strength of the pull to the reference policy: a number (in the reward), or a `KL`; 0 is none.
        entropy: coefficient of the entropy bonus.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
        sampler_correction: weights for tokens that other weights or another engine drew: a `SamplerCorrection`.
        epochs, minibatches: optimiser steps on one batch.
    """
    high = clip if clip_high is None else clip_high
    advantage = _advantage_term(values, decay, discount) + _cut_off(bootstrap)
    credit: GeneralisedAdvantage | VTrace
    if values == "gae":
        credit = GeneralisedAdvantage(decay, critic_decay, discount, standardise, bootstrap)
    else:
        why = f"values is {values!r}, whose advantages and targets are of one piece"
        refuse_unread("critic_decay", critic_decay, None, why, "set values='gae'")
        rule = VTrace if values == "vtrace" else Retrace
        credit = rule(decay=decay, discount=discount, standardise=standardise, bootstrap=bootstrap)
    near = held(kl, entropy, constraint, sampler_correction, place="reward")
    return Algorithm(
        name="ppo",
        title="Proximal policy optimisation",
        paper="Schulman et al. 2017, arXiv 1707.06347, equations 7 and 11; advantages: arXiv " + SOURCES[values],
        equation=f"{TOKENS}{clip_term(clip, high)}, {advantage}{', standardised over the step' if standardise else ''}"
        + near.terms,
        source=Sampled(),
        credit=credit,
        objective=near.weighted(ClippedRatio(clip, high)),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=TokenMean(),
        step=Step(epochs, minibatches, maximum_kl),
        deviations="decay defaults to 1 (the paper: 0.95), because token prefixes never merge; the critic has its own "
        "weights, optimiser and learning rate (the paper: one loss for both) and no value clip unless asked; kl, which "
        "the paper has not, is off unless set; a number stands in the reward, as in InstructGPT (arXiv 2203.02155).",
    )


def turn_ppo(
    *,
    decay: float = 1.0,
    critic_decay: float | None = None,
    discount: float = 1.0,
    bootstrap: bool = True,
    clip: float = 0.2,
    clip_high: float | None = None,
    maximum_kl: float | None = None,
    kl: float | KL = 0.0,
    entropy: float = 0.0,
    constraint: Budget | None = None,
    sampler_correction: SamplerCorrection | None = None,
    epochs: int = 4,
    minibatches: int = 1,
) -> Algorithm:
    """PPO whose decisions are whole turns: the tokens of a turn share what the turn was worth.

    Args:
        decay, discount: lambda and gamma per turn, not per token; what the environment says costs neither.
        critic_decay: lambda of the critic's own targets; None for the same.
        bootstrap: as in `ppo`: False where the limits are rules of the task, such as a game with short turns.
        clip, clip_high: how far below and above 1 a token's ratio is still rewarded (`clip_high` None: the same).
        maximum_kl: stop an update once KL(old, pi), measured in nats per token, exceeds this; None: never.
        kl: strength of the pull to the reference policy: a number (in the reward), or a `KL`; 0 is none.
        entropy: coefficient of the entropy bonus.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
        sampler_correction: weights for tokens that other weights or another engine drew: a `SamplerCorrection`.
        epochs, minibatches: optimiser steps on one batch.
    """
    high = clip if clip_high is None else clip_high
    advantage = f"A = r + {discount:g} (V(next turn) + {decay:g} A(next turn)) - V(this turn)"
    advantage += _cut_off(bootstrap)
    near = held(kl, entropy, constraint, sampler_correction, place="reward")
    return Algorithm(
        name="turn_ppo",
        title="Proximal policy optimisation over turns",
        paper="Zhou et al. 2024 (ArCHer), arXiv 2402.19446, section 3; Schulman et al. 2017, arXiv 1707.06347",
        equation=f"{TOKENS}{clip_term(clip, high)}, {advantage}" + near.terms,
        source=Sampled(),
        credit=TurnAdvantage(decay, discount, critic_decay, bootstrap),
        objective=near.weighted(ClippedRatio(clip, high)),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=TokenMean(),
        step=Step(epochs, minibatches, maximum_kl),
        deviations="ArCHer learns its turn-level critic off-policy from replayed turns and has a second, token-level "
        "update; here the critic is fitted to the turns just drawn, and a clipped ratio per token does the update.",
    )


def _advantage_term(values: Values, decay: float, discount: float) -> str:
    """The advantage of a token; mu is what drew it.

    Raises:
        ConfigurationError: for another name.
    """
    if values not in SOURCES:
        raise ConfigurationError(f"algorithm: unknown values {values!r}.", hint=f"use {', '.join(get_args(Values))}.")
    if values == "gae":
        return f"A = sum_k ({discount:g} * {decay:g})^k (r + {discount:g} V(s_(t+k+1)) - V(s_(t+k)))"
    weight = "min(1, w)" if values == "vtrace" else "w"
    return (
        f"A = {weight} (r + {discount:g} v(s_(t+1)) - V(s_t)), v(s_t) = V(s_t) + {weight} (r + {discount:g} V(s_(t+1)) "
        f"- V(s_t)) + {discount * decay:g} min(1, w) (v(s_(t+1)) - V(s_(t+1))), w = old(o_it)/mu(o_it)"
    )


def _cut_off(bootstrap: bool) -> str:
    return f", V = {'V(last token)' if bootstrap else '0'} where a limit cuts"
