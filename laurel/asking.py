"""One round of questions to an expert: which turns it takes itself, and what it would have said in all the others."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from laurel.aggregate import path_to, state_key
from laurel.errors import PolicyError
from laurel.experts import Expert, NoReply, Question, Replied
from laurel.metrics import Metric
from laurel.policy import Policy
from laurel.rollout import Due, Limits, LocalSampler, Taken, rollout_key, uniforms
from laurel.tasks import Task
from laurel.tree import IntArray, Source, Tree

TURNS = (Source.POLICY, Source.EXPERT)


@dataclass(frozen=True, eq=False)
class State:
    """Where somebody is about to take a turn: the question, and the segment of its tree that it follows."""

    question: Question
    parent: int = 0

    @cached_property
    def key(self) -> bytes:
        return state_key(self.question.task.id, self.question.tokens)


@dataclass
class Asking:
    """Asks an expert, each question once, and never more often than it may.

    Attributes:
        expert, policy, limits, path_limit: who is asked, whose tokens the answers become, and what they must fit.
        tasks: of every rollout of the round, by its name.
        answers: what is known already, by state; what is found out is added.
        left: how many questions may still be asked; None: any number.
        taken: the turns that the expert takes itself, as (rollout, turn).
        failures: why questions were not answered, in the order of asking; "" for one that was.
    """

    expert: Expert
    policy: Policy
    limits: Limits
    path_limit: int
    tasks: Mapping[str, Task]
    answers: MutableMapping[bytes, IntArray]
    left: int | None
    taken: frozenset[tuple[str, int]]
    failures: list[str] = field(default_factory=list)
    _unanswered: set[bytes] = field(default_factory=set)

    @property
    def asked(self) -> int:
        """How many questions the round cost."""
        return len(self.failures)

    def take(self, turns: Sequence[Due]) -> list[Taken | None]:
        """See `laurel.rollout.Substitute`: the expert's answers where it takes the turn, and has one."""
        states = [
            State(Question(due.rollout, self.tasks[due.rollout], due.dialogue, due.path))
            if (due.rollout, due.turn) in self.taken
            else None
            for due in turns
        ]
        self.ask([state for state in states if state is not None])
        known = [None if state is None else self.answers.get(state.key) for state in states]
        return [None if tokens is None else Taken(tokens, self.policy.decode(tokens)) for tokens in known]

    def ask(self, states: Sequence[State], *, order: np.random.Generator | None = None) -> None:
        """Find the answers to those of these states that have none yet, as far as the budget goes.

        Args:
            order: picks which of them are asked about where there are too many; None: the first.
        """
        unknown: dict[bytes, Question] = {}
        for state in states:
            if state.key not in self.answers and state.key not in self._unanswered:
                unknown.setdefault(state.key, state.question)
        keys = list(unknown)
        if self.left is not None and len(keys) > self.left:
            chosen = range(self.left) if order is None else sorted(order.permutation(len(keys))[: self.left].tolist())
            keys = [keys[index] for index in chosen]
        if not keys:
            return
        replies = self.expert.replies([unknown[key] for key in keys])
        if self.left is not None:
            self.left -= len(keys)
        for key, reply in zip(keys, replies, strict=True):
            answer = self._tokens(unknown[key], reply)
            if isinstance(answer, str):
                self._unanswered.add(key)
                self.failures.append(answer)
            else:
                self.answers[key] = answer
                self.failures.append("")

    def _tokens(self, question: Question, reply: Replied | NoReply) -> IntArray | str:
        """An answer as tokens, its end included, or why it is none."""
        where = f"task {question.task.id}, turn {len(question.dialogue) // 2 + 1} of rollout {question.rollout}"
        if isinstance(reply, NoReply):
            return f"{where}: {reply.reason}"
        try:
            tokens = self.policy.encode_answer(reply.text) if reply.tokens is None else reply.tokens
        except PolicyError as error:
            return f"{where}: the answer {reply.text!r} cannot be encoded: {error.message}"
        if len(tokens) > self.limits.max_new_tokens:
            return (
                f"{where}: the answer has {len(tokens)} tokens with its end; limits.max_new_tokens is "
                f"{self.limits.max_new_tokens}"
            )
        if len(question.tokens) + len(tokens) > self.path_limit:
            return f"{where}: the answer leads to {len(question.tokens) + len(tokens)} tokens of {self.path_limit}"
        return tokens


def states_of(tree: Tree, tasks: Mapping[str, Task]) -> list[State]:
    """Where turns were taken, by the policy or by the expert: one state for every visit."""
    states = []
    for segment in tree.segments:
        if segment.source not in TURNS or segment.rollout_id is None:
            continue
        dialogue = tuple(tree.segments[above].text for above in tree.path(segment.parent))
        path = path_to(tree, segment.parent)
        question = Question(segment.rollout_id, tasks[segment.rollout_id], dialogue, path)
        states.append(State(question, segment.parent))
    return states


def turns_taken(
    sampler: LocalSampler, rollouts: Sequence[str], chance: float, left: int | None
) -> frozenset[tuple[str, int]]:
    """The turns that an expert takes itself: each with this chance, by a coin that hangs on seed, rollout and turn.

    They are settled before anything is drawn, so that no order of sampling matters; where the budget might not do for
    all of them, the early turns go first.
    """
    if chance <= 0:
        return frozenset()
    count = sampler.limits.max_turns
    names = [rollout for rollout in rollouts for _ in range(count)]
    turns = np.tile(np.arange(count), len(rollouts))
    keys = np.repeat([rollout_key(sampler.seed, f"{rollout}#expert") for rollout in rollouts], count)
    coins = uniforms(keys, turns)
    heads = [int(place) for place in np.lexsort((coins, turns)) if coins[place] < chance]
    return frozenset((names[place], int(turns[place])) for place in heads[:left])


def agreement(trees: Sequence[Tree], answers: Mapping[bytes, IntArray]) -> Metric:
    """How many of the policy's own turns, among those with an answer, were that very answer."""
    same = seen = 0
    for tree in trees:
        for segment in tree.segments:
            if segment.source is not Source.POLICY:
                continue
            answer = answers.get(state_key(tree.task_id, path_to(tree, segment.parent)))
            if answer is not None:
                seen += 1
                same += np.array_equal(answer, segment.tokens)
    return Metric(float(same), float(seen))
