"""A policy as the judge of one answer: is it good, yes or no, or how good on a scale of numerals?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from laurel.errors import ConfigurationError
from laurel.policy.policy import Policy, Reference
from laurel.policy.verdicts import Verdicts, question_template, text_of
from laurel.tasks.task import Task
from laurel.tree import Failed, FloatArray

YES_OR_NO = "{prompt}\n\nAnswer:\n{answer}\n\nDoes the answer do what was asked, correctly? Say yes or no.\n"
ON_A_SCALE = (
    "{prompt}\n\nAnswer:\n{answer}\n\nHow well does the answer do what was asked? Say a number from {lowest} (not at "
    "all) to {highest} (perfectly).\n"
)
MOST_NUMERALS = 100
"""On one scale: each is a verdict that is computed."""


@dataclass(frozen=True)
class Rubric:
    """How a judge is asked how good an answer is.

        P(yes)                        P(yes) / (P(yes) + P(no)), in [0, 1]
        the mean of a scale           sum over its numerals n of n P(n) / sum over numerals of P(n)

    under the judge's log-probabilities; nothing is drawn.

    Source: for the mean of a scale, Liu et al. 2023 (G-Eval), arXiv 2303.16634, without its chain of thought.

    Attributes:
        question: with the field {answer}, and perhaps {prompt}, {reference} (a task without one fails), and of a scale
            {lowest} and {highest}; None: `YES_OR_NO` or `ON_A_SCALE`.
        verdicts: how it says yes and no.
        scale: the least and the greatest numeral, such as (1, 10); None: yes or no.

    Raises:
        ConfigurationError: the question has other fields, or the scale has no extent.
    """

    question: str | None = None
    verdicts: tuple[str, str] = ("yes", "no")
    scale: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.scale is not None:
            low, high = self.scale
            if not 0 <= low < high < low + MOST_NUMERALS:
                raise ConfigurationError(
                    f"A scale from {low} to {high} is none, or too long.",
                    hint=f"such as [1, 10]; at most {MOST_NUMERALS}.",
                )
            if self.verdicts != Rubric.verdicts:
                raise ConfigurationError(
                    "'verdicts' would not be read: on a scale the numerals are the verdicts.",
                    hint="remove one of them.",
                )
        if self.question is None:
            object.__setattr__(self, "question", YES_OR_NO if self.scale is None else ON_A_SCALE)
        ends = () if self.scale is None else ("lowest", "highest")
        question_template(self.text, may=("prompt", "reference", *ends), must=("answer",))

    @property
    def text(self) -> str:
        """The question."""
        assert self.question is not None
        return self.question

    @property
    def numerals(self) -> Sequence[int]:
        """Of the scale."""
        low, high = self.scale or (0, -1)
        return range(low, high + 1)

    @property
    def description(self) -> Mapping[str, Any]:
        """What a run records of it: what makes it again."""
        return asdict(self)


class RubricJudge:
    """Asks a policy how good answers are, as a rubric says; all of them in packed passes.

    Args:
        policy: who judges. With a chat template it is asked as its user; else it goes on from the text of the question.
        rubric: how it is asked.
        weights: see `Verdicts`.

    Raises:
        ConfigurationError, PolicyError: the judge cannot write the verdicts, or two are the same to it.
    """

    def __init__(self, policy: Policy, rubric: Rubric | None = None, *, weights: Reference | None = None) -> None:
        self.policy, self.rubric = policy, rubric or Rubric()
        said = [str(numeral) for numeral in self.rubric.numerals] or list(self.rubric.verdicts)
        self._template = question_template(
            self.rubric.text, may=("prompt", "reference", "lowest", "highest"), must=("answer",)
        )
        self._verdicts = Verdicts(policy, said, conversation=policy.chat.has_template, weights=weights)

    def values(self, asked: Sequence[tuple[Task, str]]) -> list[float | Failed]:
        """What each answer to its task is worth, in their order; or why that is not known."""
        needs_reference = "reference" in self._template.fields
        results: dict[int, float | Failed] = {}
        questions: dict[int, str] = {}
        for number, (task, answer) in enumerate(asked):
            if needs_reference and task.reference is None:
                results[number] = Failed("the rubric quotes the task's reference answer, and it has none")
            else:
                questions[number] = self._question(task, answer)
        for number, said in zip(questions, self._verdicts.ask(list(questions.values())), strict=True):
            results[number] = said if isinstance(said, Failed) else self._worth(said)
        return [results[number] for number in range(len(asked))]

    def _question(self, task: Task, answer: str) -> str:
        low, high = self.rubric.scale or (0, 0)
        row = {
            "prompt": text_of(task),
            "answer": answer,
            "reference": task.reference or "",
            "lowest": low,
            "highest": high,
        }
        return self._template.fill(row, f"Task {task.id}")

    def _worth(self, log_probs: FloatArray) -> float:
        probabilities = np.exp(log_probs)
        if self.rubric.scale is None:
            return float(probabilities[0])
        return float(probabilities @ np.array(self.rubric.numerals, np.float64))
