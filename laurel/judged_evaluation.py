"""Held-out judgements for methods that learn from judged answers: does the policy hold the better answer the better?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from laurel.algorithms import Algorithm, Compared
from laurel.evaluation import Evaluation, interval
from laurel.judged import comparison, judged, with_mismatched
from laurel.learner import Learner
from laurel.preferences import Preference
from laurel.tasks import Task
from laurel.tree import Score, Tree

SAID = "implicit_reward"
"""The part of a judged answer's score that holds what the method takes for its reward."""

MEASURES = {"accuracy": "preference/accuracy", "margin": "preference/margin", "loss": "loss"}
"""Evaluations, and what each is called among what the objective reports."""

OF_DRAWN_ANSWERS = (
    "evaluation_samples",
    "evaluation_sampling",
    "grading",
    "limits",
    "max_live_rows",
    "sampling",
    "watched_reward",
)
"""Arguments of `laurel.train` that say how answers are drawn and graded, which nobody does here."""


def held_out_judgements(arguments: Mapping[str, Any]) -> bool:
    """Whether the held-out tasks of these arguments of `laurel.train` are judged answers that the method itself judges.

    With a reward (or an environment that pays one) answers to their prompts are drawn and graded instead.
    """
    algorithm: Algorithm = arguments["algorithm"]
    graded = any(arguments[name] is not None for name in ("reward", "environment", "held_out_reward"))
    held_out = arguments["held_out"]
    compares = isinstance(algorithm.source, Compared) and held_out is not None
    return compares and not graded and all(isinstance(task, Preference) for task in held_out)


def evaluate_judged(learner: Learner, tasks: Sequence[Task], *, label: str = "evaluation") -> list[Evaluation]:
    """`accuracy`, `margin` and `loss` of the policy as it is, each a mean over prompts with its 95 % interval.

    They are the objective's own, without regularisers. Of pairs: the share whose better answer has the greater implicit
    reward (equal ones count half), and by how much it is greater. See `laurel.objectives` for what each method takes
    for a reward, and for kto, which judges answers one by one. A prompt whose answers are judged alike is in none.

    The trees of `accuracy` hold every answer with its implicit reward among the parts of its score.

    Raises:
        LearnerError: no prompt says anything to the method.
    """
    trees = [comparison(learner.policy, judged(task), f"{label}.{index}") for index, task in enumerate(tasks)]
    source = learner.algorithm.source
    paired = isinstance(source, Compared) and source.mismatched
    found = learner.judge(with_mismatched(trees, room=learner.policy.context_length) if paired else trees)
    evaluations = []
    for name, measured in MEASURES.items():
        values = found.by_prompt[measured]
        kept = tuple(_with_rewards(tree, found.rewards) for tree in trees) if name == "accuracy" else ()
        evaluations.append(Evaluation(name, *interval(values), len(values), 0, kept))
    return evaluations


def _with_rewards(tree: Tree, rewards: Mapping[str, float]) -> Tree:
    """The tree with the implicit reward of every answer that takes part."""
    told = {}
    for rollout in tree.rollouts:
        outcome = rollout.outcome
        if rollout.id in rewards and outcome is not None and isinstance(outcome.score, Score):
            parts = {**outcome.score.parts, SAID: rewards[rollout.id]}
            told[rollout.leaf] = replace(outcome, score=replace(outcome.score, parts=parts))
    return tree.with_outcomes(told)
