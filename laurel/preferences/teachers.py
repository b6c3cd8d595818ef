"""Scripted teachers, who judge answers by a known reward with known faults.

A teacher is asked about two answers, each with the rewards of its steps, and says which is better, that they are equal,
or nothing. Its faults can be switched on one by one, so that what a method suffers from is known (B-Pref, Lee et al.
2021, arXiv 2111.03026, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from laurel.errors import ConfigurationError
from laurel.preferences.left_out import Fault, LeftOut
from laurel.preferences.preference import Kind, Preference, best
from laurel.preferences.sources import PreferenceSet
from laurel.tasks import Task
from laurel.tree import Rollout


@dataclass(frozen=True)
class Query:
    """What a teacher is asked: which of two answers to a task is better?

    Attributes:
        task: the prompt.
        answers: the two, as text.
        rewards: for each answer the true rewards of its steps, in their order; empty where only a person can tell.
        rollouts: that the answers stand in; None where there are only texts.
    """

    task: Task
    answers: tuple[str, str]
    rewards: tuple[Sequence[float], Sequence[float]] = ((), ())
    rollouts: tuple[Rollout, Rollout] | None = None


def said_by_rollout(rollout: Rollout) -> str:
    """What a rollout says after its prompt: the answer, or a dialogue with the names of who speaks."""
    turns = rollout.turns[1:]
    if len(turns) == 1:
        return turns[0][1]
    return "\n".join(f"{source.name.lower()}: {text}" for source, text in turns)


class Teacher(Protocol):
    """1.0: the first is better; 0.0: the second; 0.5: they are equal; None: skipped."""

    def __call__(self, query: Query) -> float | None: ...


@dataclass
class ScriptedTeacher:
    """A teacher who knows the rewards. Without settings it is an oracle: the greater sum wins, equal sums tie.

    With value(answer) = sum over its n steps t of discount^(n - t) reward_t, in this order:

        skip   where both sums of rewards are below `skip_below`
        tie    where the sums differ by less than `equal_within`
        first  with probability sigmoid(rationality * (value(first) - value(second)))
        flip   with probability `mistake`

    Attributes:
        rationality: beta; None is infinite: always the greater value.
        discount: gamma, in (0, 1]: below 1 the teacher is short-sighted and remembers the last steps best.
        mistake: epsilon, in [0, 1/2].
        skip_below, equal_within: None: never.
        seed: fixes every draw; the same queries in the same order get the same answers.
    """

    rationality: float | None = None
    discount: float = 1.0
    mistake: float = 0.0
    skip_below: float | None = None
    equal_within: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rationality is not None and not self.rationality >= 0:
            raise ConfigurationError(
                f"rationality must not be negative, got {self.rationality!r}.", hint="0 guesses, None is an oracle."
            )
        if not 0 < self.discount <= 1:
            raise ConfigurationError(f"discount must lie in (0, 1], got {self.discount!r}.", hint="1 forgets nothing.")
        if not 0 <= self.mistake <= 0.5:
            raise ConfigurationError(f"mistake must lie in [0, 0.5], got {self.mistake!r}.", hint="0 makes none.")
        if self.equal_within is not None and not self.equal_within >= 0:
            raise ConfigurationError(f"equal_within must not be negative, got {self.equal_within!r}.")
        self.load_state({"asked": 0})

    def state(self) -> dict[str, int]:
        """What later answers depend on, as JSON: how often it was asked."""
        return {"asked": self._asked}

    def load_state(self, state: Mapping[str, int]) -> None:
        """Go on from `state()`."""
        self._asked = state["asked"]
        generator = np.random.PCG64(self.seed)
        self._draw = np.random.Generator(generator.advance(2 * self._asked))

    def probability(self, query: Query) -> float:
        """Of preferring the first, before mistakes; 1/2 for an oracle whose values are equal."""
        gap = self._value(query.rewards[0]) - self._value(query.rewards[1])
        if self.rationality is None:
            return 0.5 + 0.5 * float(np.sign(gap))
        return float(np.exp(-np.logaddexp(0.0, -self.rationality * gap)))

    def __call__(self, query: Query) -> float | None:
        # Always two draws, so that one setting does not move the chances of later queries.
        chance, slip = self._draw.random(2)
        self._asked += 1
        first, second = (float(np.sum(rewards)) for rewards in query.rewards)
        if self.skip_below is not None and max(first, second) < self.skip_below:
            return None
        if self.equal_within is not None and abs(first - second) < self.equal_within:
            return 0.5
        probability = self.probability(query)
        if self.rationality is None and probability == 0.5:
            return 0.5
        answer = float(chance < probability)
        return 1 - answer if slip < self.mistake else answer

    def _value(self, rewards: Sequence[float]) -> float:
        weights = self.discount ** np.arange(len(rewards) - 1, -1, -1)
        return float(weights @ np.asarray(rewards, np.float64))


def taught(queries: Iterable[Query], teacher: Teacher, *, name: str = "taught") -> PreferenceSet:
    """What a teacher says to some queries, as preferences; what was skipped is counted, by the query's number from 1.

    Raises:
        ConfigurationError: every query was skipped.
    """
    kept: list[Preference] = []
    skipped: list[int] = []
    for number, query in enumerate(queries, start=1):
        verdict = teacher(query)
        if verdict is None:
            skipped.append(number)
            continue
        scores = (verdict, 1 - verdict)
        kept.append(
            Preference(
                id=f"{name}-{number}",
                prompt=query.task.prompt,
                reference=best(query.answers, scores, Kind.PAIR),
                data=query.task.data,
                answers=query.answers,
                scores=scores,
            )
        )
    if not kept:
        raise ConfigurationError(f"The teacher answered none of {len(skipped)} queries.", hint="lower skip_below.")
    return PreferenceSet(name, tuple(kept), LeftOut({Fault.SKIPPED: tuple(skipped)} if skipped else {}))
