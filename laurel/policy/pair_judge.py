"""A policy as the judge of two answers: which of them is better, by a principle?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from laurel.errors import ConfigurationError
from laurel.policy.policy import Policy, Reference
from laurel.policy.verdicts import Verdicts, question_template, text_of
from laurel.preferences.both_orders import Shown
from laurel.preferences.constitution import HELPFUL_AND_HONEST, drawn_principle, principles_of
from laurel.tree import Failed

QUESTION = """{prompt}

First answer:
{first}

Second answer:
{second}

{principle}
Which answer is better by that, 1 or 2? Say 1 for the first or 2 for the second.
"""


@dataclass(frozen=True)
class Comparison:
    """How a judge is asked which of two answers is better.

    Attributes:
        question: with the fields {first} and {second}, and perhaps {prompt} and {principle}.
        verdicts: how it says "the first" and "the second".
        principles: a file or a list (`laurel.preferences.principles_of`); None: `HELPFUL_AND_HONEST`, where the
            question names the principle. They are kept as texts.
        every_principle: ask by each of them, and average the log-odds; else by one, drawn for each pair.
        seed: fixes which.

    Raises:
        ConfigurationError: the question has other fields, there are principles that it does not name, or none.
    """

    question: str = QUESTION
    verdicts: tuple[str, str] = ("1", "2")
    principles: tuple[str, ...] | str | None = None
    every_principle: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        template = question_template(self.question, may=("prompt", "principle"), must=("first", "second"))
        named = "principle" in template.fields
        if not named and (self.principles is not None or self.every_principle):
            raise ConfigurationError(
                "Principles would not be read: the question does not name {principle}.", hint="add it, or remove them."
            )
        given = HELPFUL_AND_HONEST if self.principles is None else principles_of(self.principles)
        object.__setattr__(self, "principles", given if named else None)

    def by(self, shown: Shown) -> tuple[str, ...]:
        """The principles that a pair is judged by, the same in both orders."""
        if not isinstance(self.principles, tuple):
            return ("",)
        if self.every_principle:
            return self.principles
        task, *answers = shown
        return (drawn_principle(self.principles, self.seed, task.id, *sorted(answers)),)

    @property
    def description(self) -> Mapping[str, Any]:
        """What a run records of it: what makes it again."""
        return asdict(self)


class PairJudge:
    """l(first, second) = log P(verdict "1") - log P(verdict "2"), as the judge would answer, without a draw.

        judge = PairJudge(laurel.policy.load("my-judge"), Comparison(principles="constitution.yaml"))
        print(laurel.measure_judge(judge, laurel.preferences.pairs("pairs.jsonl")))

    It is one order of a pair that is judged here; whoever asks does so in both (`laurel.preferences.in_both_orders`).
    A judge with a chat template is asked as its user; else it goes on from the text of the question.

    Args:
        policy: who judges.
        comparison: how it is asked.
        weights: see `Verdicts`.

    Raises:
        ConfigurationError, PolicyError: the judge cannot write the verdicts, or both are the same to it.
    """

    runs_in_process = True

    def __init__(
        self, policy: Policy, comparison: Comparison | None = None, *, weights: Reference | None = None
    ) -> None:
        self.policy, self.comparison = policy, comparison or Comparison()
        self._template = question_template(
            self.comparison.question, may=("prompt", "principle"), must=("first", "second")
        )
        conversation = policy.chat.has_template
        self._verdicts = Verdicts(policy, self.comparison.verdicts, conversation=conversation, weights=weights)

    @property
    def description(self) -> Mapping[str, Any]:
        """What a run records of it."""
        judge = {"policy": self.policy.description, "comparison": self.comparison.description}
        return {"type": type(self).__name__, **judge}

    def log_odds(self, shown: Sequence[Shown]) -> list[float | Failed]:
        """See `laurel.preferences.PairJudging`; all of them are asked about in packed passes."""
        questions: list[str] = []
        counts: list[int] = []
        for task, first, second in shown:
            row = {"prompt": text_of(task), "first": first, "second": second}
            principles = self.comparison.by((task, first, second))
            counts.append(len(principles))
            questions += [self._template.fill({**row, "principle": said}, f"Task {task.id}") for said in principles]
        answers = iter(self._verdicts.ask(questions))
        return [_mean([next(answers) for _ in range(count)]) for count in counts]


def _mean(answers: Sequence[np.ndarray | Failed]) -> float | Failed:
    """The mean log-odds over principles; a failure where one of them failed."""
    odds: list[float] = []
    for answer in answers:
        if isinstance(answer, Failed):
            return answer
        odds.append(float(answer[0] - answer[1]))
    return sum(odds) / len(odds)
