"""How a model reads rollouts that it is to score: all of a step together, as packed trees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from laurel.errors import LaurelError
from laurel.policy.policy import Policy
from laurel.tasks.task import Task
from laurel.tree import Ending, Failed, IntArray, Rollout, Score, Segment, Source, Tree

TOKENS_PER_PASS = 4096
"""Distinct tokens in one forward pass; only a single tree exceeds it."""

Place = tuple[int, int]
"""Which of the rollouts asked for, and the segment of the tree at whose end it is read."""


@dataclass(frozen=True)
class Reading:
    """A tree to be scored, and where what is said of it belongs; the places of a rollout stand in their order."""

    tree: Tree
    places: tuple[Place, ...]


class RolloutReader(ABC):
    """A reward that is read from the tokens of rollouts, at the ends of some of their segments.

    A rollout that the reader cannot read, because it is longer than its context or has no tokens of its own there, is
    `Failed`, never 0.

    Args:
        reader: whose tokens and context they are.
        writer: the policy whose rollouts are scored. Where it writes the tokens that the reader reads, they are read as
            they were drawn, whole dialogues too. Otherwise, and without a writer, the task's prompt and the rollout's
            text are encoded for the reader, and a rollout of several turns is `Failed`.
    """

    runs_in_process = True

    def __init__(self, reader: Policy, *, writer: Policy | None = None) -> None:
        self.reader = reader
        self.reads_tokens = writer is not None and same_tokens(writer, reader)

    @abstractmethod
    def read_for(self, writer: Policy) -> RolloutReader:
        """The same reward of what this policy writes."""

    @abstractmethod
    def read(self, trees: Sequence[Tree], segments: Sequence[Sequence[int]]) -> list[float]:
        """What is said at the ends of these segments of each tree."""

    @abstractmethod
    def scored(self, said: Sequence[float]) -> Score:
        """The score of a rollout of which this was said, place by place; all of it is finite."""

    def ends(self, tree: Tree, leaf: int) -> Sequence[int]:
        """At which segments a rollout is read."""
        return (leaf,)

    def cut(self, tokens: IntArray, rollout: Rollout) -> list[IntArray]:
        """The tokens of an answer that was encoded anew, as the segments whose ends are read.

        Raises:
            LaurelError: they cannot be cut.
        """
        return [tokens]

    def __call__(self, task: Task, rollout: Rollout) -> Score | Failed:
        return self.score_rollouts([(task, rollout)])[0]

    def score_rollouts(self, asked: Sequence[tuple[Task, Rollout]]) -> list[Score | Failed]:
        """One result per rollout, in their order; what rollouts share is computed once."""
        results: dict[int, Score | Failed] = {}
        readings = self._drawn(asked, results) if self.reads_tokens else self._encoded(asked, results)
        said: dict[int, list[float]] = {}
        for batch in _batches(readings):
            trees = [reading.tree for reading in batch]
            values = self.read(trees, [[segment for _, segment in reading.places] for reading in batch])
            places = [place for reading in batch for place in reading.places]
            for (number, _), value in zip(places, values, strict=True):
                said.setdefault(number, []).append(value)
        for number, some in said.items():
            wrong = [value for value in some if not np.isfinite(value)]
            results[number] = Failed(f"the reward model says {wrong[0]}") if wrong else self.scored(some)
        return [results[number] for number in range(len(asked))]

    def _too_long(self, tokens: int) -> Failed | None:
        context = self.reader.context_length
        return None if tokens <= context else Failed(f"{tokens} tokens do not fit in the reward model's {context}")

    def _drawn(self, asked: Sequence[tuple[Task, Rollout]], results: dict[int, Score | Failed]) -> list[Reading]:
        """The trees as they were drawn, without rollouts that do not fit."""
        below: dict[int, list[int]] = {}
        for number, (_, rollout) in enumerate(asked):
            too_long = self._too_long(sum(map(len, rollout.segments)))
            if too_long is not None:
                results[number] = too_long
            else:
                below.setdefault(id(rollout.tree), []).append(number)
        readings = []
        for numbers in below.values():
            whole, leaves = asked[numbers[0]][1].tree, [asked[number][1].leaf for number in numbers]
            tree, moved = whole.above(leaves)
            places = [
                (number, moved[end])
                for number, leaf in zip(numbers, leaves, strict=True)
                for end in self.ends(whole, leaf)
            ]
            readings.append(Reading(tree, tuple(places)))
        return readings

    def _encoded(self, asked: Sequence[tuple[Task, Rollout]], results: dict[int, Score | Failed]) -> list[Reading]:
        """Prompts and texts in the reader's own tokens; answers to one task below one prompt."""
        answers: dict[str, list[int]] = {}
        for number, (task, _) in enumerate(asked):
            answers.setdefault(task.id, []).append(number)
        readings = []
        for numbers in answers.values():
            task = asked[numbers[0]][0]
            segments: list[Segment] = []
            places: list[Place] = []
            for number in numbers:
                parts = self._answer(task, asked[number][1], segments)
                if isinstance(parts, Failed):
                    results[number] = parts
                    continue
                parent = 0
                for part in parts:
                    segments.append(Segment(Source.POLICY, part, parent))
                    parent = len(segments) - 1
                    places.append((number, parent))
            if places:
                readings.append(Reading(Tree(task.id, task.id, tuple(segments)), tuple(places)))
        return readings

    def _answer(self, task: Task, rollout: Rollout, segments: list[Segment]) -> list[IntArray] | Failed:
        """The answer below the prompt, which is put first where it is not there yet."""
        if any(segment.source is Source.ENVIRONMENT for segment in rollout.segments):
            return Failed("the reward model reads other tokens than the policy writes, and no dialogues in them")
        try:
            if not segments:
                segments.append(Segment(Source.PROMPT, self.reader.encode_prompt(task.prompt), -1))
            tokens = self.reader.encode_answer(rollout.text)
            truncated = rollout.outcome is not None and rollout.outcome.ending is Ending.TRUNCATED
            tokens = tokens[:-1] if truncated and len(tokens) > 1 else tokens  # no end token where the answer has none
            too_long = self._too_long(len(segments[0]) + len(tokens))
            return too_long or self.cut(tokens, rollout)
        except LaurelError as error:
            return Failed(f"the reward model cannot read it: {error.message}")


def same_tokens(policy: Policy, other: Policy) -> bool:
    """Whether two models give every token the same number."""
    same: bool = policy.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    return same and policy.vocabulary_size == other.vocabulary_size


def _batches(readings: Sequence[Reading]) -> list[list[Reading]]:
    batches: list[list[Reading]] = []
    size = 0
    for reading in readings:
        if not batches or size + len(reading.tree.flat) > TOKENS_PER_PASS:
            batches.append([])
            size = 0
        batches[-1].append(reading)
        size += len(reading.tree.flat)
    return batches
