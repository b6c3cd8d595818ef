"""Named methods that recover a reward from demonstrations, and with it the policy that would have written them."""

from __future__ import annotations

from laurel.algorithms.algorithm import Algorithm, Demonstrated, Step
from laurel.credit import EveryToken
from laurel.objectives import InverseSoftQ, TokenMean


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
        paper="Garg et al. 2021, arXiv 2106.12142, equations 9 and 10; Wulfmeier et al. 2024, arXiv 2409.01369",
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
