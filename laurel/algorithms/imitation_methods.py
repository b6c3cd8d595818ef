"""Named methods that imitate a teacher who can be asked about anything the policy writes."""

from __future__ import annotations

from laurel.algorithms.algorithm import Algorithm, Demonstrated, Sampled
from laurel.algorithms.terms import refuse_unread
from laurel.credit import EveryToken
from laurel.objectives import Distillation, Divergence, TokenMean

MIXTURE = 0.5


def distill(*, divergence: str = "reverse", mixture: float = MIXTURE, on_policy: bool = True) -> Algorithm:
    """On-policy distillation: the policy writes, and at every token moves towards what the teacher would have said.

    The teacher is `laurel.train(teacher=...)`: a policy, or the name or directory of one, with the same tokenizer.

    Args:
        divergence: "reverse" keeps to what the teacher says most, "forward" covers everything that it might say,
            "jensen_shannon" lies between.
        mixture: the teacher's share of the mixture that Jensen-Shannon compares both with.
        on_policy: false takes the tasks' own `reference` answers in place of the policy's samples.
    """
    if divergence != "jensen_shannon":
        why = f"divergence is {divergence!r}"
        refuse_unread("mixture", mixture, MIXTURE, why, "set divergence='jensen_shannon'")
    terms = {
        "forward": "KL(teacher(.|s_t), pi(.|s_t))",
        "reverse": "KL(pi(.|s_t), teacher(.|s_t))",
        "jensen_shannon": f"({mixture:g} KL(teacher(.|s_t), m) + {1 - mixture:g} KL(pi(.|s_t), m)), "
        f"m = {mixture:g} teacher(.|s_t) + {1 - mixture:g} pi(.|s_t)",
    }
    chosen = Divergence(divergence, mixture)
    return Algorithm(
        name="distill",
        title="On-policy distillation" if on_policy else "Distillation on written answers",
        paper="Agarwal et al. 2023, arXiv 2306.13649, equation 2",
        equation=f"-1/(sum_i |o_i|) sum_i sum_t {terms[divergence]}" + ("" if on_policy else ", o demonstrated"),
        source=Sampled(taught=True) if on_policy else Demonstrated(),
        credit=EveryToken(),
        objective=Distillation(chosen),
        reduction=TokenMean(),
        deviations="a step has either the policy's samples or written answers (the paper mixes them, with a share "
        "lambda); the mean is over the tokens of the step (the paper: first within each answer); both are compared at "
        "the temperature and within the truncation that a token was drawn with.",
    )
