"""Named methods that imitate somebody who can be asked about anything the policy writes: a teacher, an expert."""

from __future__ import annotations

from laurel.algorithms.algorithm import Algorithm, Asked, Demonstrated, Sampled
from laurel.algorithms.terms import refuse_unread
from laurel.credit import EveryToken, GivenAnswers
from laurel.objectives import Distillation, DistinctTokenMean, Divergence, NegativeLogLikelihood, TokenMean

MIXTURE = 0.5


def distill(
    *, divergence: str = "reverse", mixture: float = MIXTURE, on_policy: bool = True, given_share: float = 0.0
) -> Algorithm:
    """On-policy distillation: the policy writes, and at every token moves towards what the teacher would have said.

    The teacher is `laurel.train(teacher=...)`: a policy, or the name or directory of one, with the same tokenizer.

    Args:
        divergence: "reverse" keeps to what the teacher says most, "forward" covers everything that it might say,
            "jensen_shannon" lies between.
        mixture: the teacher's share of the mixture that Jensen-Shannon compares both with.
        on_policy: false takes the tasks' own `reference` answers in place of the policy's samples.
        given_share: 1 - lambda, the share of the prompts of a step that come with their `reference` answer, written by
            a person or by the teacher beforehand, while the others are answered by the policy.
    """
    if divergence != "jensen_shannon":
        why = f"divergence is {divergence!r}"
        refuse_unread("mixture", mixture, MIXTURE, why, "set divergence='jensen_shannon'")
    if not on_policy:
        refuse_unread("given_share", given_share, 0.0, "all answers are given", "set on_policy=True")
    terms = {
        "forward": "KL(teacher(.|s_t), pi(.|s_t))",
        "reverse": "KL(pi(.|s_t), teacher(.|s_t))",
        "jensen_shannon": f"({mixture:g} KL(teacher(.|s_t), m) + {1 - mixture:g} KL(pi(.|s_t), m)), "
        f"m = {mixture:g} teacher(.|s_t) + {1 - mixture:g} pi(.|s_t)",
    }
    chosen = Divergence(divergence, mixture)
    written = f", o demonstrated for {given_share:g} of the prompts" if given_share else ""
    written = written if on_policy else ", o demonstrated"
    return Algorithm(
        name="distill",
        title="On-policy distillation" if on_policy else "Distillation on written answers",
        paper="Agarwal et al. 2023, arXiv 2306.13649, equation 2",
        equation=f"-1/(sum_i |o_i|) sum_i sum_t {terms[divergence]}" + written,
        source=Sampled(taught=True, given=given_share) if on_policy else Demonstrated(),
        credit=EveryToken(),
        objective=Distillation(chosen),
        reduction=TokenMean(),
        deviations="a coin for every prompt says whether its answer is given (the paper: one for the whole step, which "
        "falls on samples with the chance lambda); the mean is over the tokens of the step (the paper: first within "
        "each answer); both are compared at the temperature and within the truncation that a token was drawn with.",
    )


def dagger(
    *,
    queries: int | None = None,
    mixture: float = Asked.mixture,
    round_steps: int = Asked.round_steps,
    prompts_per_update: int = Asked.prompts_per_update,
) -> Algorithm:
    """Dataset aggregation: wherever the policy leads, an expert says what it would do, and all of that is cloned.

    The expert is `laurel.train(expert=...)`: a function of (task, dialogue), another policy, or a program. It is asked
    once about a state (a task with everything that was said so far), a turn of the policy at a time.

    Args:
        queries: how many questions may be asked in all; None: any number. Used up, the run goes on with what it has.
        mixture: p. In round i the expert takes each turn itself with the chance p^(i - 1): 0 leaves it the first
            round (the paper's parameter-free choice), 1 all of them (cloning).
        round_steps: steps of a round. The first one draws and asks, all of them learn.
        prompts_per_update: how many prompts, with the rollouts that were drawn for them and the answers beside these, a
            step learns from, out of all that were ever asked about.
    """
    budget = "" if queries is None else f", of at most {queries} questions"
    return Algorithm(
        name="dagger",
        title="Dataset aggregation",
        paper="Ross, Gordon and Bagnell 2011, arXiv 1011.0686, algorithm 3.1",
        equation="1/(sum_i |e_i|) sum_i sum_t log pi(e_it), e_i the expert's answer in a state s_i of the aggregate"
        f"{budget}; s drawn by (1 - b) pi + b expert, b = {mixture:g}^(round - 1)",
        source=Asked(queries, mixture, round_steps, prompts_per_update),
        credit=GivenAnswers(),
        objective=NegativeLogLikelihood(),
        reduction=DistinctTokenMean(),
        deviations="a state is the beginning of a turn, and the expert answers a whole turn; a step is one optimiser "
        "step on a part of the aggregate (the paper trains to the end in every round); the last policy is kept (the "
        "paper: the best on validation, which held_out tasks show).",
    )
