"""Losses of reward models: negative log-likelihoods of judgements, as pure functions of rewards.

r(y) is the reward of an answer, sigma the logistic function. All are differentiable, in whatever precision they are
given. A comparison says nothing about a constant added to the rewards of all answers to one prompt.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid


def bradley_terry_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """-log P(w beats l) = -log sigma(r(w) - r(l)), element by element.

    Args:
        chosen, rejected: [P] rewards of the better and of the worse answers.

    Example: equal rewards give log 2; a lead of log 3 gives log(4/3).
    Source: Bradley and Terry 1952; InstructGPT, arXiv 2203.02155, equation 1.
    """
    return -logsigmoid(chosen - rejected)


def davidson_loss(
    first: torch.Tensor, second: torch.Tensor, tied: torch.Tensor, log_tie_weight: torch.Tensor
) -> torch.Tensor:
    """Bradley-Terry with ties, m = r(first) - r(second) and a tie weight nu:

        P(first) : P(tie) : P(second) = exp(m / 2) : nu : exp(-m / 2)

    The loss is -log P(tie) where the two were tied, else -log P(first). As nu goes to 0 the latter is the
    Bradley-Terry loss.

    Args:
        first, second: [P] rewards; where there was no tie, of the better and of the worse answer.
        tied: [P] bool.
        log_tie_weight: log nu, a scalar.

    Example: m = 0 and nu = 1: each of the three has probability 1/3, so the loss is log 3.
    Source: Davidson 1970, "On extending the Bradley-Terry model to accommodate ties in paired comparison experiments".
    """
    half = (first - second) / 2
    weight = log_tie_weight.expand_as(half)
    total = torch.logsumexp(torch.stack([half, weight, -half]), 0)
    return total - torch.where(tied, weight, half)


def plackett_luce_loss(rewards: torch.Tensor, scores: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
    """For each answer, -log of the probability that it is chosen from among itself and those ranked below it:

        loss_i = log(exp r_i + sum over j below i of exp r_j) - r_i

    The sum over the answers to one prompt is -log P(ranking). The last answer adds 0, and of two answers the sum is
    `bradley_terry_loss`. Answers with equal scores are not compared with each other; the sum is then no longer the
    likelihood of one ranking, but every term still is that of one choice.

    Args:
        rewards: [R].
        scores: [R] the greater, the better.
        prompts: [R] which prompt each answers; only answers to the same one are compared.

    Example: three answers of equal reward, in any strict order: log 3, log 2 and 0.
    Source: Plackett 1975; Luce 1959; for language models: arXiv 2301.11270.
    """
    below = (scores[:, None] > scores[None, :]) & (prompts[:, None] == prompts[None, :])
    among = below | torch.eye(len(rewards), dtype=torch.bool, device=rewards.device)
    choices = rewards.expand(len(rewards), -1).masked_fill(~among, -torch.inf)
    return torch.logsumexp(choices, 1) - rewards


def ordinal_loss(rewards: torch.Tensor, levels: torch.Tensor, cutpoints: torch.Tensor) -> torch.Tensor:
    """-log P(level), with P(level <= k) = sigma(c_k - r) for k = 0 ... K - 2: cumulative link, proportional odds.

    Only differences between rewards and cutpoints matter. Two levels with one cutpoint c are a thumb:
    P(up) = sigma(r - c).

    Args:
        rewards: [N].
        levels: [N] int in 0 ... K - 1; the greater, the better.
        cutpoints: [K - 1] rising strictly; see `rising`.

    Example: cutpoints (-log 3, log 3) and r = 0 give the levels the probabilities 1/4, 1/2, 1/4.
    Source: McCullagh 1980, "Regression models for ordinal data".
    """
    # sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - exp(b - a)), which keeps its digits in both tails.
    infinity = torch.full_like(cutpoints[:1], torch.inf)
    upper = torch.cat([cutpoints, infinity])[levels]
    lower = torch.cat([-infinity, cutpoints])[levels]
    return -logsigmoid(upper - rewards) - logsigmoid(rewards - lower) - torch.log(-torch.expm1(lower - upper))


def binary_loss(rewards: torch.Tensor, good: torch.Tensor, cutpoint: torch.Tensor) -> torch.Tensor:
    """-log sigma(r - c) of a good answer, -log sigma(c - r) of a bad one: `ordinal_loss` with two levels.

    Args:
        rewards: [N].
        good: [N] bool.
        cutpoint: c, a scalar; the reward at which an answer is as likely good as bad.

    Example: r = c gives log 2; r = c + log 3 gives log(4/3) if good, log 4 if bad.
    Source: Cox 1958, "The regression analysis of binary sequences".
    """
    return -logsigmoid(torch.where(good, rewards - cutpoint, cutpoint - rewards))


def step_label_loss(log_odds: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """-l log sigma(z) - (1 - l) log sigma(-z): the cross-entropy between a step's label and what is said of it.

    Args:
        log_odds: [N] z, the log-odds that the step is right.
        labels: [N] l in [0, 1]: 0 or 1, or a share of right continuations; the minimum is at sigma(z) = l.

    Example: z = log 3 gives log(4/3) under l = 1, log 4 under l = 0, and their mean under l = 1/2.
    Source: Lightman et al. 2023, arXiv 2305.20050, section 2.6 (l in {0, 1}); Math-Shepherd, arXiv 2312.08935,
    equation 2.
    """
    return -labels * logsigmoid(log_odds) - (1 - labels) * logsigmoid(-log_odds)


def rising(parameters: torch.Tensor) -> torch.Tensor:
    """[K] any numbers to strictly rising ones: the first as it is, then steps of exp(parameter).

    Example: (-1, 0, log 2) gives (-1, 0, 2).
    """
    return torch.cumsum(torch.cat([parameters[:1], parameters[1:].exp()]), 0)
