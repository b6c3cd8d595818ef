"""Sampling designs: every batch of experience that can be drawn, with its probability. Groups, and trees that fork."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch

from laurel.errors import ConfigurationError
from laurel.theory.exact import path_log_probs
from laurel.theory.world import History, Reply, World, group_tree, path_segments
from laurel.tree import Outcome, Sampling, Score, Segment, Source, Tree

MAXIMUM_BATCHES = 200_000


@dataclass(frozen=True)
class Experience:
    """One batch that may be sampled.

    Attributes:
        probability: of drawing exactly this.
        trees: the batch.
        states: for every policy token in the order of the flat layout, tree after tree, the state it was drawn in.
    """

    probability: float
    trees: tuple[Tree, ...]
    states: tuple[int, ...]


def groups(world: World, behaviour: torch.Tensor, samples: int, *, prompts: int = 1) -> Iterator[Experience]:
    """Every batch of `prompts` groups of `samples` rollouts drawn from the behaviour table, with its probability.

    Raises:
        ConfigurationError: more than MAXIMUM_BATCHES batches.
    """
    drawn = prompts * samples
    if len(world.paths) ** drawn > MAXIMUM_BATCHES:
        raise ConfigurationError(
            f"{len(world.paths)} rollouts drawn {drawn} times give more than {MAXIMUM_BATCHES} batches.",
            hint="take fewer samples or a smaller world.",
        )
    chances = path_log_probs(world, behaviour.detach()).exp().tolist()
    for chosen in itertools.product(range(len(world.paths)), repeat=drawn):
        paths = tuple(world.paths[index] for index in chosen)
        trees = tuple(
            group_tree(world, paths[first : first + samples], id=f"tree {first}") for first in range(0, drawn, samples)
        )
        states = tuple(state for path in paths for state in path.states)
        yield Experience(prod(chances[index] for index in chosen), trees, states)


def with_greedy(world: World, behaviour: torch.Tensor, drawn: Iterable[Experience]) -> Iterator[Experience]:
    """The same batches; in each tree the rollout of the most likely tokens, drawn with `top_k=1`, comes last."""
    best = behaviour.detach().argmax(-1).tolist()
    (path,) = [p for p in world.paths if all(best[s] == t for s, t in zip(p.states, p.tokens, strict=True))]
    for experience in drawn:
        trees, states, used = [], [], 0
        for tree in experience.trees:
            added = path_segments(path, offset=len(tree.segments))
            policy = [replace(s, sampling=Sampling(top_k=1)) if s.source is Source.POLICY else s for s in added]
            count = int(tree.flat.policy.sum())
            states += [*experience.states[used : used + count], *path.states]
            used += count
            trees.append(replace(tree, segments=(*tree.segments, *policy)))
        yield Experience(experience.probability, tuple(trees), tuple(states))


@dataclass(frozen=True)
class _Draw:
    """One token that was drawn, what the world answered, and what was drawn after it."""

    state: int
    token: int
    reply: Reply
    after: tuple[_Draw, ...]


def forking(
    world: World, behaviour: torch.Tensor, width: Callable[[History], int], *, prompts: int = 1
) -> Iterator[Experience]:
    """Every batch of trees in which `width(history)` independent continuations are drawn at each history.

    `width(())` is the number of samples per prompt; 1 goes on without a fork. It may depend on what was drawn. Every
    token is a segment of its own.

    Raises:
        ConfigurationError: more than MAXIMUM_BATCHES batches.
    """
    table = torch.softmax(behaviour.detach(), dim=-1).tolist()

    def drawn(history: History) -> list[tuple[float, tuple[_Draw, ...]]]:
        state = world.states[world.state(history)]
        single: list[tuple[float, _Draw]] = []
        for token in range(world.vocabulary):
            reply = world.respond((*history, token))
            later = [(1.0, ())] if reply.ending else drawn((*history, token, *reply.observation))
            single += [(table[state][token] * chance, _Draw(state, token, reply, after)) for chance, after in later]
        if len(single) ** width(history) > MAXIMUM_BATCHES:
            raise ConfigurationError(
                f"Forks at {history} give more than {MAXIMUM_BATCHES} batches.", hint="fork less, or take less world."
            )
        together = itertools.product(single, repeat=width(history))
        return [(prod(chance for chance, _ in chosen), tuple(draw for _, draw in chosen)) for chosen in together]

    for chosen in itertools.product(drawn(()), repeat=prompts):
        trees: list[Tree] = []
        states: list[int] = []
        for index, (_, draws) in enumerate(chosen):
            segments = [Segment(Source.PROMPT, np.array(world.prompt), -1)]
            _append(draws, 0, segments, states)
            trees.append(Tree(f"tree {index}", f"tree {index}", tuple(segments)))
        yield Experience(prod(chance for chance, _ in chosen), tuple(trees), tuple(states))


def _append(draws: tuple[_Draw, ...], parent: int, segments: list[Segment], states: list[int]) -> None:
    for draw in draws:
        reply = draw.reply
        outcome = Outcome(reply.ending, "stop", Score(reply.score)) if reply.ending else None
        observed = bool(reply.observation)
        states.append(draw.state)
        segments.append(
            Segment(
                Source.POLICY,
                np.array([draw.token]),
                parent,
                reward=0.0 if observed else reply.reward,
                outcome=None if observed else outcome,
            )
        )
        last = len(segments) - 1
        if observed:
            tokens = np.array(reply.observation)
            segments.append(Segment(Source.ENVIRONMENT, tokens, last, reward=reply.reward, outcome=outcome))
            last += 1
        _append(draw.after, last, segments, states)
