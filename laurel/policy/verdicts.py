"""How likely a policy is to answer a question in each of a few ways: without a draw, many questions in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch

from laurel.errors import ConfigurationError, LaurelError
from laurel.policy.packed import pack
from laurel.policy.policy import Policy, Reference
from laurel.policy.read_rollouts import TOKENS_PER_PASS
from laurel.tasks.task import Message, Prompt, Task
from laurel.tasks.template import Template
from laurel.tree import Failed, FloatArray, IntArray, Segment, Source, Tree


class Verdicts:
    """Asks a policy, and compares a few answers that it could give, its verdicts.

        log_probs[q, k] = log P(verdict k | question q) - log sum over j of P(verdict j | question q)

    Nothing is drawn, and what the policy would rather have said does not matter. Where one verdict begins another ("1"
    and "10" in characters), each is held against the others with its end; otherwise what follows a verdict is left
    open.

    What questions have in common at their beginning is computed once: a prompt and its answers, a rubric that stands
    first.

    Args:
        policy: who is asked.
        verdicts: at least two texts, as it would begin its answer.
        conversation: whether a question is a user's message, laid out by the chat template; else it is plain text.
        weights: a snapshot of the policy that answers in its place; None: the policy as it is when it is asked.

    Raises:
        ConfigurationError: two verdicts are the same tokens.
        PolicyError: the policy cannot write one of them.
    """

    def __init__(
        self,
        policy: Policy,
        verdicts: Sequence[str],
        *,
        conversation: bool,
        weights: Reference | None = None,
    ) -> None:
        self.policy = policy
        self._conversation = conversation
        self._weights = weights or policy
        ended = [policy.encode_answer(text) for text in verdicts]
        for place, (text, tokens) in enumerate(zip(verdicts, ended, strict=True)):
            for other, before in zip(verdicts[:place], ended[:place], strict=True):
                if np.array_equal(tokens, before):
                    raise ConfigurationError(
                        f"The judge writes {other!r} and {text!r} as the same tokens.", hint="take others."
                    )
        begun = [tokens[:-1] for tokens in ended]
        begins = any(
            len(one) < len(other) and np.array_equal(one, other[: len(one)]) for one in begun for other in begun
        )
        self._verdicts = ended if begins else begun

    def ask(self, questions: Sequence[str]) -> list[FloatArray | Failed]:
        """For each question the log-probabilities of the verdicts, [K], which sum to 1; or why there are none."""
        answers: list[FloatArray | Failed | None] = [None] * len(questions)
        paths: dict[int, IntArray] = {}
        for number, question in enumerate(questions):
            path = self._path(question)
            if isinstance(path, Failed):
                answers[number] = path
            else:
                paths[number] = path
        order = sorted(paths, key=lambda number: paths[number].tolist())
        for numbers in self._passes(order, paths):
            said = self._said([paths[number] for number in numbers])
            for number, row in zip(numbers, said, strict=True):
                answers[number] = row if np.isfinite(row).all() else Failed(f"the judge says {row.tolist()}")
        return [answer for answer in answers if answer is not None]

    def _path(self, question: str) -> IntArray | Failed:
        asked: Prompt = (Message(role="user", content=question),) if self._conversation else question
        try:
            path = self.policy.encode_prompt(asked)
        except LaurelError as error:
            return Failed(f"the judge cannot read the question: {error.message}")
        whole, context = len(path) + max(map(len, self._verdicts)), self.policy.context_length
        if whole > context:
            return Failed(f"the question has {whole} tokens with its verdict; the judge's context holds {context}")
        return path

    def _passes(self, order: Sequence[int], paths: dict[int, IntArray]) -> list[list[int]]:
        """Neighbours in alphabetical order, as many as fit in one pass; what they share counts once."""
        passes: list[list[int]] = []
        size, before = 0, np.empty(0, np.int64)
        for number in order:
            path, verdicts = paths[number], sum(map(len, self._verdicts))
            new = len(path) - shared(before, path) + verdicts
            if not passes or size + new > TOKENS_PER_PASS:
                passes.append([])
                size, new = 0, len(path) + verdicts
            passes[-1].append(number)
            size, before = size + new, path
        return passes

    def _said(self, paths: Sequence[IntArray]) -> FloatArray:
        """[Q, K] of paths in alphabetical order."""
        trees, ends = asked_trees(paths, self._verdicts)
        packed = pack(trees, [tree.flat.policy for tree in trees], self.policy.device)
        with torch.no_grad():
            scores = self._weights.token_scores(packed, entropy=False).log_probs.double().cpu().numpy()
        lengths = [len(verdict) for tree in trees for _ in _askings(tree) for verdict in self._verdicts]
        sums = np.array([part.sum() for part in np.split(scores, np.cumsum(lengths)[:-1])])
        by_place = sums.reshape(-1, len(self._verdicts))[ends]
        normalised: FloatArray = by_place - np.logaddexp.reduce(by_place, axis=1, keepdims=True)
        return normalised


def asked_trees(paths: Sequence[IntArray], verdicts: Sequence[IntArray]) -> tuple[list[Tree], list[int]]:
    """Questions in alphabetical order, with all verdicts below each, as trees in which each common beginning is once.

    Returns:
        the trees, and for every question the number of the place, counted over all trees, whose verdicts are its own.
        Equal questions have one place.
    """
    trees: list[Tree] = []
    ends: list[int] = []

    def grow(group: Sequence[IntArray], start: int, parent: int, segments: list[Segment]) -> None:
        """The paths of a group, which agree in their first `start` tokens and in one more."""
        common = shared(group[0], group[-1])  # of sorted paths, the first and the last differ soonest
        segments.append(Segment(Source.PROMPT, group[0][start:common], parent))
        here = len(segments) - 1
        ended = [path for path in group if len(path) == common]
        if ended:
            ends.extend([max(ends, default=-1) + 1] * len(ended))
            segments.extend(Segment(Source.POLICY, verdict, here) for verdict in verdicts)
        for _, rest in groupby(group[len(ended) :], key=lambda path: int(path[common])):
            grow(list(rest), common, here, segments)

    for _, group in groupby(paths, key=lambda path: int(path[0])):
        segments: list[Segment] = []
        grow(list(group), 0, -1, segments)
        trees.append(Tree(f"questions.{len(trees)}", "questions", tuple(segments)))
    return trees, ends


def shared(one: IntArray, other: IntArray) -> int:
    """How many tokens two paths have in common at their beginning."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length


def _askings(tree: Tree) -> list[int]:
    """The segments of a tree that verdicts hang on."""
    return sorted({segment.parent for segment in tree.segments if segment.source is Source.POLICY})


def question_template(question: str, *, may: Sequence[str], must: Sequence[str]) -> Template:
    """What a judge is asked, with these fields.

    Raises:
        ConfigurationError: it names another field, or one that it must name is missing.
        TaskError: it is no template.
    """
    template = Template(question)
    if set(template.fields) - {*may, *must} or not set(must) <= set(template.fields):
        known = {"may": [f"{{{name}}}" for name in may], "must": [f"{{{name}}}" for name in must]}
        told = [f"{how} name {', '.join(names)}" for how, names in known.items() if names]
        raise ConfigurationError(
            f"The question {question!r} has the fields {', '.join(template.fields) or 'none'}.",
            hint=f"it {', and '.join(told) or 'has none'}.",
        )
    return template


def text_of(task: Task) -> str:
    """The prompt of a task as a text to be quoted in a question: of a conversation what was said, line by line."""
    return task.prompt if isinstance(task.prompt, str) else "\n".join(message["content"] for message in task.prompt)
