"""Worlds small enough to list: every rollout, its probability and its return, so that every expectation is a sum.

A world has V tokens and answers after *every* policy token: it may say something (environment tokens), pay a reward,
and end the rollout. A policy is a table of logits [S, V] over the states that can be reached. By default a state is
the whole history, as it is for a language model; a `state` function that forgets makes states merge.

    world = single_turn(vocabulary=2, horizon=2, score=lambda answer: float(answer == (1, 0)))
    len(world.paths), len(world.states)      4 rollouts (00 01 10 11), 3 states: (), (0,), (1,)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from laurel.errors import ConfigurationError
from laurel.tree import Ending, Outcome, Score, Segment, Source, Tree

History = tuple[int, ...]
MAXIMUM_PATHS = 20_000


@dataclass(frozen=True)
class Reply:
    """What the world answers to a policy token.

    Attributes:
        observation: environment tokens, appended to the history.
        reward: paid now.
        ending: how the rollout ends here, or None if it goes on.
        score: the final score, where it ends.
    """

    observation: tuple[int, ...] = ()
    reward: float = 0.0
    ending: Ending | None = None
    score: float = 0.0


@dataclass(frozen=True)
class Path:
    """One rollout. n policy tokens; every tuple has n entries.

    Attributes:
        states: index of the state in which each token was drawn.
        histories: the history before each token (policy and environment tokens after the prompt).
        tokens: the policy tokens.
        replies: what the world answered to each.
    """

    states: tuple[int, ...]
    histories: tuple[History, ...]
    tokens: tuple[int, ...]
    replies: tuple[Reply, ...]

    @property
    def rewards(self) -> tuple[float, ...]:
        """What each token earned, the score with the last. They sum to the return."""
        return tuple(reply.reward + (reply.score if reply.ending else 0.0) for reply in self.replies)


@dataclass(frozen=True)
class World:
    """A task that can be enumerated.

    Attributes:
        vocabulary: V, the number of tokens that the policy chooses among in every state.
        respond: the history, the new token included, to the world's reply.
        state: what of a history the policy sees. Histories of one state must have the same future (`wrongly_merged`).
        prompt: the tokens of the prompt.
    """

    vocabulary: int
    respond: Callable[[History], Reply]
    state: Callable[[History], Hashable] = lambda history: history
    prompt: tuple[int, ...] = (0,)

    @cached_property
    def states(self) -> dict[Hashable, int]:
        """The reachable states, numbered in the order in which a depth-first walk meets them."""
        return self._listed[0]

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """Every rollout, in lexicographic order of its tokens."""
        return self._listed[1]

    def continuations(self, history: History) -> tuple[Path, ...]:
        """Every way in which a rollout can go on from a history in which the policy acts."""
        return tuple(self._walk(Path((), (), (), ()), history, self.states))

    @cached_property
    def _listed(self) -> tuple[dict[Hashable, int], tuple[Path, ...]]:
        states: dict[Hashable, int] = {}
        paths: list[Path] = []
        for path in self._walk(Path((), (), (), ()), (), states):
            paths.append(path)
            if len(paths) > MAXIMUM_PATHS:
                raise ConfigurationError(
                    f"This world has more than {MAXIMUM_PATHS} rollouts.",
                    hint="take fewer tokens or a shorter horizon.",
                )
        return states, tuple(paths)

    def _walk(self, path: Path, history: History, states: dict[Hashable, int]) -> Iterator[Path]:
        index = states.setdefault(self.state(history), len(states))
        for token in range(self.vocabulary):
            reply = self.respond((*history, token))
            longer = Path(
                (*path.states, index), (*path.histories, history), (*path.tokens, token), (*path.replies, reply)
            )
            if reply.ending is None:
                yield from self._walk(longer, (*history, token, *reply.observation), states)
            else:
                yield longer


def single_turn(
    *, vocabulary: int, horizon: int, score: Callable[[tuple[int, ...]], float], end: int | None = None
) -> World:
    """One answer of at most `horizon` tokens, scored when it ends: by the token `end`, or at the horizon.

    With `end`, an answer that reaches the horizon without it is truncated (and still scored); without, it terminates.
    """

    def respond(history: History) -> Reply:
        if history[-1] == end:
            return Reply(ending=Ending.TERMINATED, score=score(history))
        if len(history) == horizon:
            return Reply(ending=Ending.TERMINATED if end is None else Ending.TRUNCATED, score=score(history))
        return Reply()

    return World(vocabulary, respond)


def path_segments(path: Path, *, first: int = 0, parent: int = 0, offset: int = 1) -> list[Segment]:
    """The part of a path from policy token `first` on, as segments that continue segment `parent` of a tree.

    A policy segment ends where the world speaks or pays. What it pays lies on the observation, or on the policy
    segment where there is none. `offset` is the index that the first of the new segments will have.
    """
    segments: list[Segment] = []
    pending: list[int] = []
    for token, reply in zip(path.tokens[first:], path.replies[first:], strict=True):
        pending.append(token)
        if not (reply.observation or reply.reward or reply.ending):
            continue
        outcome = Outcome(reply.ending, "stop", Score(reply.score)) if reply.ending else None
        paid = 0.0 if reply.observation else reply.reward
        last = None if reply.observation else outcome
        segments.append(Segment(Source.POLICY, np.array(pending), parent, reward=paid, outcome=last))
        parent, pending = offset + len(segments) - 1, []
        if reply.observation:
            observed = np.array(reply.observation)
            segments.append(Segment(Source.ENVIRONMENT, observed, parent, reward=reply.reward, outcome=outcome))
            parent = offset + len(segments) - 1
    return segments


def group_tree(world: World, paths: tuple[Path, ...], *, id: str = "tree") -> Tree:
    """The tree of a group: these rollouts as siblings below the prompt, whatever prefixes they happen to share."""
    segments = [Segment(Source.PROMPT, np.array(world.prompt), -1)]
    for path in paths:
        segments.extend(path_segments(path, offset=len(segments)))
    return Tree(id, id, tuple(segments))


@dataclass(frozen=True)
class WronglyMerged:
    """Two histories of one state of a world that a token tells apart: what follows it after each."""

    first: History
    second: History
    token: int
    replies: tuple[Reply, Reply]


def wrongly_merged(world: World) -> WronglyMerged | None:
    """Two histories that `World.state` calls one although their futures differ, or None.

    A state is right if after each of its histories every token is followed by the same reward, and by the same end and
    score or by the same next state: then, token after token, all that can follow is the same. (Observations need not
    be: a state may forget how things were said.)
    """
    known: dict[tuple[Hashable, int], tuple[History, Reply, object]] = {}
    for history in dict.fromkeys(history for path in world.paths for history in path.histories):
        for token in range(world.vocabulary):
            reply = world.respond((*history, token))
            over = reply.ending is not None
            after = reply.score if over else world.state((*history, token, *reply.observation))
            future = (reply.reward, reply.ending, after)
            first, seen, expected = known.setdefault((world.state(history), token), (history, reply, future))
            if future != expected:
                return WronglyMerged(first, history, token, (seen, reply))
    return None
