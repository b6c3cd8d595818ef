"""A policy as the judge of steps: is this step right, yes or no?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laurel.errors import PolicyError
from laurel.policy.policy import Policy
from laurel.policy.verdicts import Verdicts, question_template, text_of
from laurel.tasks.task import Task
from laurel.tree import Failed

QUESTION = "{prompt}\n\nSteps so far:\n{before}\nNext step:\n{step}\n\nIs the next step right? Answer yes or no.\n"


class StepJudge:
    """label(step) = P(yes) / (P(yes) + P(no)), as the judge would answer, without a draw.

        step_scores(StepJudge(laurel.policy.load("my-judge")))

    All steps of an answer are asked about in one pass.

    Args:
        policy: who judges.
        question: what it is asked, with the fields {prompt}, {before} and {step}.
        yes, no: the two answers, as the judge would begin them.
        conversation: whether it is asked as the user, by the judge's chat template.

    Raises:
        ConfigurationError: the question does not name the step, or names something else.
        PolicyError: the judge cannot write one of the answers.
    """

    runs_in_process = True

    def __init__(
        self,
        policy: Policy,
        *,
        question: str = QUESTION,
        yes: str = "yes",
        no: str = "no",
        conversation: bool = False,
    ) -> None:
        self.policy = policy
        self.conversation = conversation
        self._template = question_template(question, may=("prompt", "before"), must=("step",))
        self._verdicts = Verdicts(policy, (yes, no), conversation=conversation)

    def __call__(self, task: Task, steps: Sequence[str]) -> list[float]:
        """One probability per step.

        Raises:
            PolicyError: a question is longer than the judge's context, or cannot be read.
        """
        questions = [self._question(task, steps[:number], step) for number, step in enumerate(steps)]
        labels = []
        for number, said in enumerate(self._verdicts.ask(questions), start=1):
            if isinstance(said, Failed):
                raise PolicyError(f"Task {task.id}, step {number}: {said.reason}.", hint="shorten it, or mend it.")
            labels.append(float(np.exp(said[0])))
        return labels

    def _question(self, task: Task, before: Sequence[str], step: str) -> str:
        row = {"prompt": text_of(task), "before": "".join(before), "step": step}
        return self._template.fill(row, f"Task {task.id}")
