"""Self-taught reasoning: cloning what the policy itself got right."""

from __future__ import annotations

from laurel.algorithms.algorithm import Algorithm, Sampled, Step
from laurel.credit import Accepted
from laurel.objectives import NegativeLogLikelihood, PromptMean


def star(*, hint: str | None = None, threshold: float = 1.0, epochs: int = 1, minibatches: int = 1) -> Algorithm:
    """STaR: sample, keep the answers that the reward accepts, and clone them; with a hint where none was accepted.

    Args:
        hint: what is put before the prompts of which no sample was accepted, for as many samples more
            ("rationalisation"). A template over {reference} and the task's data, such as "The answer is {reference}. ".
            What is accepted then is learned from as the answer to the prompt without the hint. None: such prompts
            teach nothing.
        threshold: the least reward that is accepted.
        epochs, minibatches: optimiser steps on one batch.
    """
    given = "" if hint is None else f", o ~ pi(.|hint, q) where no o ~ pi(.|q) is; hint {hint!r}"
    equation = f"1/P sum_q 1/(sum_(i in q) |o_i|) sum_i sum_t log pi(o_it), o sampled with R(o) >= {threshold:g}"
    return Algorithm(
        name="star",
        title="Self-taught reasoner: cloning of the accepted samples, with rationalisation",
        paper="Zelikman et al. 2022, arXiv 2203.14465, algorithm 1",
        equation=equation + given,
        source=Sampled(hint=hint),
        credit=Accepted(threshold),
        objective=NegativeLogLikelihood(),
        reduction=PromptMean(),
        step=Step(epochs, minibatches),
        deviations="steps go on from the present weights (the paper: every round from the first ones); all accepted "
        "samples of a prompt share its weight (the paper: one answer of each prompt).",
    )
