"""Two tasks with known answers, small enough for a policy from scratch to solve in seconds.

`letters`: one turn, one sparse reward at its end, from nothing. `digging`: two turns, of which the first decides, from
a policy that knows the moves, and makes the right ones now and then.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import ClassVar

from laurel.environments import Conversation, Environment
from laurel.environments.conversation import Dialogue
from laurel.environments.environment import Turn
from laurel.policy.tiny import END
from laurel.rewards import Reward, exact_match
from laurel.rollout import Limits
from laurel.tasks import Task, TaskSet


@dataclass(frozen=True)
class Digging(Conversation):
    """Fetch the spade, although a coin lies nearer; then dig where the ore is, which only the second turn shows.

        prompt        a:          the spade lies in room a
        policy        a           fetches it, and earns nothing yet
        environment   y:          the ore is in pit y
        policy        y           digs there: 1 with the spade, `by_hand` without it; elsewhere 0. Terminated

    In its first turn the policy may write "$" instead: it has a coin, worth `coin` at once, and no spade. Whatever else
    it writes earns nothing and is no spade either. Nothing that it reads afterwards tells whether it has the spade, so
    what the first turn was worth shows in the last reward alone.

    Best: the spade, and 1. Myopic, by what each turn earns itself: the coin, and `coin + by_hand`.

    Attributes:
        rooms, pits: their letters; no letter is both, so that a policy of one layer can tell what it was shown when.
        coin, by_hand: what they are worth.
        seed: which rooms and pits the games have.
    """

    runs_in_process: ClassVar[bool] = True
    rooms: str = "ab"
    pits: str = "xy"
    coin: float = 0.1
    by_hand: float = 0.2
    seed: int = 0

    def tasks(self, count: int, *, first: int = 0) -> TaskSet:
        """`count` games, numbered from `first`."""
        games = (f"game-{index}" for index in range(first, first + count))
        return TaskSet("digging", tuple(Task(name, f"{self._spade(name)}:") for name in games))

    def known(self) -> TaskSet:
        """Every move once and the right one again, in all games as they may be shown.

        Who clones that plays by the rules, and makes every other of his first moves well.
        """
        firsts = [(f"{spade}:", move) for spade in self.rooms for move in f"{self.rooms}${spade}"]
        seconds = [
            (f"{said}{move}{END}{ore}:", dug)
            for said, move in firsts
            for ore in self.pits
            for dug in f"{self.pits}{ore}"
        ]
        moves = enumerate([*firsts, *seconds])
        return TaskSet("known moves", tuple(Task(f"move-{number}", shown, move) for number, (shown, move) in moves))

    def converse(self, task: Task, rollout_id: str) -> Dialogue:
        """One game."""
        ore = self._drawn(self.pits, f"ore/{task.id}")
        first = yield str(task.prompt)
        second = yield Turn(f"{ore}:", reward=self.coin if first == "$" else 0.0)
        if second != ore:
            return 0.0
        return 1.0 if first == self._spade(task.id) else self.by_hand

    def _spade(self, name: str) -> str:
        return self._drawn(self.rooms, f"spade/{name}")

    def _drawn(self, places: str, what: str) -> str:
        return random.Random(f"{self.seed}/{what}").choice(places)


@dataclass(frozen=True)
class LearningTask:
    """A task with everything that a run on it needs beside a method.

    Attributes:
        title: what is to be learned, in a line.
        alphabet: the characters of the policy.
        training, held_out: what is learned from, and what is judged on.
        limits: of one rollout.
        steps: updates in a run.
        optimum: the expected return of the best policy.
        solved: the held-out return from which on it counts as solved.
        known: what a policy clones before anything is measured; None: it starts from random weights.
        reward, environment: who pays.
    """

    title: str
    alphabet: str
    training: TaskSet
    held_out: TaskSet
    limits: Limits
    steps: int
    optimum: float
    solved: float
    known: TaskSet | None = None
    reward: Reward | None = None
    environment: Environment | None = None

    @property
    def longest(self) -> int:
        """Most tokens that a policy writes in a rollout."""
        return self.limits.max_new_tokens * self.limits.max_turns


def last_letters(letters: str = "abcd", *, held_out: int = 16) -> tuple[TaskSet, TaskSet]:
    """All words of three letters, each with its last one as the answer: those to learn from, and those held out."""
    words = ["".join(word) for word in itertools.product(letters, repeat=3)]
    random.Random(0).shuffle(words)
    tasks = tuple(Task(word, f"{word}:", word[2]) for word in words)
    return TaskSet("words", tasks[held_out:]), TaskSet("held-out words", tasks[:held_out])


def learning_tasks() -> dict[str, LearningTask]:
    """By name."""
    words, held_out_words = last_letters()
    game = Digging()
    return {
        "letters": LearningTask(
            "one turn: the last of three letters, then the end; 1 for exactly that, 0 for anything else",
            "abcd:",
            words,
            held_out_words,
            Limits(max_new_tokens=2),
            steps=150,
            optimum=1.0,
            solved=0.9,
            reward=exact_match(),
        ),
        "digging": LearningTask(
            "two turns: fetch the spade and earn nothing, or take the coin (0.1); then dig: 1 with the spade, 0.2 by "
            "hand. The coin is worth 0.3 in all. The policy starts as a clone of a player who does well now and then",
            f"{game.rooms}{game.pits}$:",
            game.tasks(512),
            game.tasks(32, first=512),
            Limits(max_new_tokens=2, max_turns=2),
            steps=100,
            optimum=1.0,
            solved=0.9,
            known=game.known(),
            environment=game,
        ),
    }
