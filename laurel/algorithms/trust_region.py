"""The named method whose step is bounded by what it does to the policy, not by a learning rate. Notation: `methods`."""

from __future__ import annotations

from laurel.algorithms.algorithm import Algorithm, Sampled, TrustRegion
from laurel.algorithms.constraints import KL, held
from laurel.credit import LeaveOneOut
from laurel.objectives import Budget, ConstantLength, Surrogate


def trpo(
    *,
    maximum_kl: float = 0.01,
    iterations: int = 10,
    damping: float = 0.1,
    halvings: int = 10,
    kl: float | KL = 0.0,
    entropy: float = 0.0,
    constraint: Budget | None = None,
) -> Algorithm:
    """Trust region policy optimisation: one natural-gradient step per batch, as far as the measured KL allows.

    There is no optimiser and no learning rate. What a step costs: `iterations` + 1 products with the Fisher matrix, of
    six forward passes each, and two forward passes for every length of the step that is tried. Adapters and tied heads
    are as good as any: a product is one pass of forward-mode differentiation and one backward pass, never a double
    backward. A model that cannot do the former is refused before anything is sampled.

    Args:
        maximum_kl: delta, in nats per token; the measured mean KL(old, pi) never exceeds it.
        iterations: most of the conjugate gradient.
        damping: added to the diagonal of the Fisher matrix; the larger, the nearer the step is to the plain gradient.
        halvings: how often a step is halved that does not improve the measured surrogate within delta; then it is
            refused, and the weights stay exactly what they were.
        kl: strength of the pull to the reference policy: a number (in the reward), or a `KL`; 0 is none. It is another
            matter than `maximum_kl`, which bounds one step; in the loss it is part of the surrogate.
        entropy: coefficient of the entropy bonus, part of the surrogate too.
        constraint: a bound on a part of the score or on the length of answers: a `Budget`.
    """
    near = held(kl, entropy, constraint, place="reward")
    return Algorithm(
        name="trpo",
        title="Trust region policy optimisation",
        paper="Schulman et al. 2015, arXiv 1502.05477, equation 14 and appendix C",
        equation="1/N sum_i sum_t rho (R(o_i) - mean_(j != i) R(o_j)), rho = pi(o_it)/old(o_it)"
        + near.terms
        + f", subject to mean_t KL(old, pi) <= {maximum_kl:g}",
        source=Sampled(),
        credit=LeaveOneOut(),
        objective=Surrogate(),
        regularisers=near.regularisers,
        penalties=near.penalties,
        reduction=ConstantLength(1.0),
        step=TrustRegion(maximum_kl, iterations, damping, halvings),
        deviations="the return minus the mean of the other samples in place of an estimate of Q; the Fisher matrix of "
        "all states of the batch (the paper: a tenth of them may do); damping is added to it where the direction is "
        "solved for, and left out of the quadratic model that scales the step.",
    )
