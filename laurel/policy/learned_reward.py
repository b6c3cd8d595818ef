"""A reward model as the reward of any online method: all rollouts of a step are scored together, as packed trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from laurel.errors import LaurelError
from laurel.policy.packed import pack
from laurel.policy.policy import Policy
from laurel.policy.reward_model import RewardModel, answer_ends
from laurel.tasks.task import Task
from laurel.tree import Ending, Failed, Rollout, Score, Segment, Source, Tree

TOKENS_PER_PASS = 4096
"""Distinct tokens in one forward pass; only a single tree exceeds it."""

Place = tuple[int, int]
"""Which of the rollouts asked for, and the leaf of the tree that it is read at."""


@dataclass(frozen=True)
class Reading:
    """A tree to be scored, and where its rewards belong."""

    tree: Tree
    places: tuple[Place, ...]


class LearnedReward:
    """reward(task, rollout) = what the reward model says of it.

        laurel.train(..., reward=LearnedReward(load_reward_model("my-reward-model"), writer=policy))

    A rollout that the model cannot read, because it is longer than its context or has no tokens of its own there, is
    `Failed`, never 0.

    Args:
        model: it is read as it is; nothing here changes it.
        writer: the policy whose rollouts are scored. Where it writes the tokens that the model reads, they are read as
            they were drawn, whole dialogues too. Otherwise, and without a writer, the task's prompt and the rollout's
            text are encoded for the model, and a rollout of several turns is `Failed`.
    """

    runs_in_process = True

    def __init__(self, model: RewardModel, *, writer: Policy | None = None) -> None:
        self.model = model
        self.reads_tokens = writer is not None and same_tokens(writer, model.trunk)

    @property
    def description(self) -> dict[str, object]:
        """What a run records of it; of another model, or of one that learned on, it is another."""
        return {"type": type(self).__name__, "model": self.model.description}

    def __call__(self, task: Task, rollout: Rollout) -> Score | Failed:
        return self.score_rollouts([(task, rollout)])[0]

    def score_rollouts(self, asked: Sequence[tuple[Task, Rollout]]) -> list[Score | Failed]:
        """One result per rollout, in their order; what rollouts share is computed once."""
        results: dict[int, Score | Failed] = {}
        readings = self._drawn(asked, results) if self.reads_tokens else self._encoded(asked, results)
        for batch in _batches(readings):
            for (number, _), reward in zip(_places(batch), self._rewards(batch), strict=True):
                finite = bool(np.isfinite(reward))
                results[number] = Score(reward) if finite else Failed(f"the reward model says {reward}")
        return [results[number] for number in range(len(asked))]

    @torch.no_grad()
    def _rewards(self, batch: Sequence[Reading]) -> list[float]:
        trees = [reading.tree for reading in batch]
        packed = pack(trees, [np.zeros(len(tree.flat), np.bool_) for tree in trees], self.model.device)
        ends = answer_ends(trees, [[leaf for _, leaf in reading.places] for reading in batch])
        values: list[float] = self.model.rewards(packed, ends).double().tolist()
        return values

    def _too_long(self, tokens: int) -> Failed | None:
        context = self.model.trunk.context_length
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
            leaves = [asked[number][1].leaf for number in numbers]
            tree, moved = asked[numbers[0]][1].tree.above(leaves)
            readings.append(Reading(tree, tuple((n, moved[leaf]) for n, leaf in zip(numbers, leaves, strict=True))))
        return readings

    def _encoded(self, asked: Sequence[tuple[Task, Rollout]], results: dict[int, Score | Failed]) -> list[Reading]:
        """Prompts and texts in the model's own tokens; answers to one task below one prompt."""
        answers: dict[str, list[int]] = {}
        for number, (task, _) in enumerate(asked):
            answers.setdefault(task.id, []).append(number)
        readings = []
        for numbers in answers.values():
            task = asked[numbers[0]][0]
            segments: list[Segment] = []
            places: list[Place] = []
            for number in numbers:
                answer = self._answer(task, asked[number][1], segments)
                if isinstance(answer, Failed):
                    results[number] = answer
                else:
                    places.append((number, len(segments)))
                    segments.append(answer)
            if places:
                readings.append(Reading(Tree(task.id, task.id, tuple(segments)), tuple(places)))
        return readings

    def _answer(self, task: Task, rollout: Rollout, segments: list[Segment]) -> Segment | Failed:
        """The answer below the prompt, which is put first where it is not there yet."""
        if any(segment.source is Source.ENVIRONMENT for segment in rollout.segments):
            return Failed("the reward model reads other tokens than the policy writes, and no dialogues in them")
        try:
            if not segments:
                segments.append(Segment(Source.PROMPT, self.model.trunk.encode_prompt(task.prompt), -1))
            tokens = self.model.trunk.encode_answer(rollout.text)
        except LaurelError as error:
            return Failed(f"the reward model cannot read it: {error.message}")
        cut = rollout.outcome is not None and rollout.outcome.ending is Ending.TRUNCATED
        tokens = tokens[:-1] if cut and len(tokens) > 1 else tokens  # no end token where the answer has none
        too_long = self._too_long(len(segments[0]) + len(tokens))
        return too_long or Segment(Source.POLICY, tokens, 0)


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


def _places(batch: Sequence[Reading]) -> list[Place]:
    return [place for reading in batch for place in reading.places]
