"""Sampling designs with continuations: every way in which places of sampled trees can be looked at from the middle."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch

from laurel.algorithms import Branching
from laurel.credit import continuation_name, cut
from laurel.errors import ConfigurationError
from laurel.theory.designs import MAXIMUM_BATCHES, Experience
from laurel.theory.states import token_histories
from laurel.theory.world import History, Path, World, path_segments
from laurel.tree import FloatArray, IntArray, Tree


@dataclass(frozen=True)
class _Branched:
    """A tree with continuations of all of its places, one of the ways in which they can be drawn."""

    probability: float
    tree: Tree


def with_continuations(
    world: World, behaviour: torch.Tensor, drawn: Iterable[Experience], branching: Branching
) -> Iterator[Experience]:
    """The same batches, each with everything that can be drawn at the places of its samples.

    Raises:
        ConfigurationError: more than MAXIMUM_BATCHES ways for one tree.
    """
    table = torch.log_softmax(behaviour.detach(), dim=-1).numpy()
    for experience in drawn:
        ways = [list(_branched(world, table, tree, branching)) for tree in experience.trees]
        for chosen in itertools.product(*ways):
            trees = tuple(way.tree for way in chosen)
            states = tuple(state for tree in trees for state in _states(world, tree))
            yield Experience(experience.probability * prod(way.probability for way in chosen), trees, states)


def _branched(world: World, table: FloatArray, tree: Tree, branching: Branching) -> Iterator[_Branched]:
    tree, ends = cut(tree, branching.places(tree, _spelled, _entropies(world, table, tree)))
    histories = token_histories(tree)
    per_place: list[list[tuple[float, tuple[Path, ...]]]] = []
    for end in ends:
        last = int(tree.flat.ends[end]) - 1
        single = _completions(world, table, (*histories[last], int(tree.flat.tokens[last])))
        together = itertools.product(single, repeat=branching.continuations)
        per_place.append([(prod(c for c, _ in chosen), tuple(path for _, path in chosen)) for chosen in together])
    if prod(map(len, per_place)) > MAXIMUM_BATCHES:
        raise ConfigurationError(
            f"The continuations of one tree give more than {MAXIMUM_BATCHES} batches.",
            hint="take fewer continuations, fewer places or a smaller world.",
        )
    for ways in itertools.product(*per_place):
        segments = list(tree.segments)
        for end, (_, paths) in zip(ends, ways, strict=True):
            for number, path in enumerate(paths):
                name = continuation_name(f"{tree.id}.{end}", end, number)
                added = path_segments(path, parent=end, offset=len(segments))
                segments += [replace(segment, rollout_id=name) for segment in added]
        yield _Branched(prod(chance for chance, _ in ways), Tree.build(tree.id, tree.task_id, segments))


def _completions(world: World, table: FloatArray, history: History) -> list[tuple[float, Path]]:
    """Every way in which a rollout can go on from a history, with its probability."""
    return [
        (float(np.exp(sum(table[state, token] for state, token in zip(path.states, path.tokens, strict=True)))), path)
        for path in world.continuations(history)
    ]


def _entropies(world: World, table: FloatArray, tree: Tree) -> FloatArray:
    """[T] of the distribution that drew each policy token; NaN elsewhere."""
    entropies = np.full(len(tree.flat), np.nan)
    entropies[tree.flat.policy] = -(np.exp(table) * table).sum(axis=1)[_states(world, tree)]
    return entropies


def _states(world: World, tree: Tree) -> list[int]:
    """The state that each policy token was drawn in, in the order of the flat layout."""
    histories = token_histories(tree)
    return [world.states[world.state(histories[token])] for token in np.flatnonzero(tree.flat.policy).tolist()]


def _spelled(tokens: IntArray) -> str:
    """Worlds have no text: each token is one letter, "a" for token 0."""
    return "".join(chr(ord("a") + int(token)) for token in tokens)
