"""A policy as the judge of steps: is this step right, yes or no?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from laurel.errors import ConfigurationError
from laurel.policy.packed import pack
from laurel.policy.policy import Policy
from laurel.tasks.task import Message, Prompt, Task
from laurel.tasks.template import Template
from laurel.tree import Segment, Source, Tree

QUESTION = "{prompt}\n\nSteps so far:\n{before}\nNext step:\n{step}\n\nIs the next step right? Answer yes or no.\n"
FIELDS = ("prompt", "before", "step")


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
        self._template = Template(question)
        unknown = set(self._template.fields) - set(FIELDS)
        if unknown or "step" not in self._template.fields:
            raise ConfigurationError(
                f"The question {question!r} has the fields {', '.join(self._template.fields) or 'none'}.",
                hint="it may name {prompt} and {before}, and must name {step}.",
            )
        # The answer is held against the other one alone: what follows it does not matter.
        self._answers = [policy.encode_answer(text)[:-1] for text in (yes, no)]
        if np.array_equal(self._answers[0], self._answers[1]):
            raise ConfigurationError(f"The judge writes {yes!r} and {no!r} as the same tokens.", hint="take others.")

    def __call__(self, task: Task, steps: Sequence[str]) -> list[float]:
        """One probability per step.

        Raises:
            PolicyError: a question is longer than the judge's context.
        """
        trees = [self._asked(task, steps[:number], step) for number, step in enumerate(steps)]
        packed = pack(trees, [tree.flat.policy for tree in trees], self.policy.device)
        with torch.no_grad():
            log_probs = self.policy.token_scores(packed, entropy=False).log_probs.double().cpu().numpy()
        sizes = [len(answer) for _ in trees for answer in self._answers]
        said = np.array([part.sum() for part in np.split(log_probs, np.cumsum(sizes)[:-1])]).reshape(-1, 2)
        labels: list[float] = (1 / (1 + np.exp(said[:, 1] - said[:, 0]))).tolist()
        return labels

    def _asked(self, task: Task, before: Sequence[str], step: str) -> Tree:
        prompt = task.prompt if isinstance(task.prompt, str) else "\n".join(m["content"] for m in task.prompt)
        row = {"prompt": prompt, "before": "".join(before), "step": step}
        text = self._template.fill(row, f"Task {task.id}")
        asked: Prompt = (Message(role="user", content=text),) if self.conversation else text
        segments = [Segment(Source.PROMPT, self.policy.encode_prompt(asked), -1)]
        segments += [Segment(Source.POLICY, answer, 0) for answer in self._answers]
        return Tree(f"{task.id}.{len(before)}", task.id, tuple(segments))
