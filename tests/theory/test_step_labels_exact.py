"""Monte-Carlo labels of steps against exact values, by listing every sample with every continuation of its steps."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from laurel.algorithms import Branching
from laurel.credit import Estimate, labelled_steps, monte_carlo_labels, step_places
from laurel.credit.continuations import is_continuation
from laurel.theory import (
    Reply,
    World,
    example_logits,
    groups,
    history_values,
    single_turn,
    token_histories,
    with_continuations,
)
from laurel.theory.world import History
from laurel.tree import Ending, Tree


def letters() -> World:
    """b, ab, aab and aaa, with their chances of being right."""
    worth = {(1,): 0.3, (0, 1): 1.0, (0, 0, 1): 0.0, (0, 0, 0): 0.6}
    return single_turn(vocabulary=2, horizon=3, score=worth.__getitem__, end=1)


def dialogue() -> World:
    """The world says 7 after the first token; the second ends the rollout, and is right if it is not the first."""

    def respond(history: History) -> Reply:
        if len(history) == 1:
            return Reply(observation=(7,))
        return Reply(ending=Ending.TERMINATED, score=float(history[0] != history[-1]))

    return World(2, respond)


def after(tree: Tree, step: int) -> History:
    """The history in which the step after this one is drawn: what the environment answered belongs to it."""
    while tree.children[step] and not tree.flat.policy[tree.flat.starts[tree.children[step][0]]]:
        step = tree.children[step][0]
    last = int(tree.flat.ends[step]) - 1
    return (*token_histories(tree)[last], int(tree.flat.tokens[last]))


def expected_labels(world: World, continuations: int, estimate: Estimate) -> dict[History, float]:
    """The mean label of a step, given the history that it leads to; only where the rollout goes on."""
    logits = example_logits(world)
    chance: dict[History, float] = defaultdict(float)
    total: dict[History, float] = defaultdict(float)
    branching = Branching(every=1, continuations=continuations, budget=100)
    for experience in with_continuations(world, logits, groups(world, logits, 1), branching):
        labelled = monte_carlo_labels(experience.trees[0], estimate)
        assert not any(is_continuation(rollout.id) for rollout in labelled.rollouts)
        for step, label in labelled_steps(labelled):
            if labelled.children[step]:
                chance[after(labelled, step)] += experience.probability
                total[after(labelled, step)] += experience.probability * label
    return {history: total[history] / chance[history] for history in chance}


@pytest.mark.parametrize("world", [letters(), dialogue()], ids=["single turn", "dialogue"])
@pytest.mark.parametrize("continuations", [1, 2])
def test_soft_labels_have_no_bias(world: World, continuations: int) -> None:
    values = history_values(world, example_logits(world))
    found = expected_labels(world, continuations, "soft")
    assert set(found) == set(values) - {()}
    for history, label in found.items():
        assert label == pytest.approx(values[history], abs=1e-12)


def test_hard_labels_are_the_chance_that_some_continuation_is_right() -> None:
    world = dialogue()
    values = history_values(world, example_logits(world))
    for count in (1, 3):
        for history, label in expected_labels(world, count, "hard").items():
            assert label == pytest.approx(1 - (1 - values[history]) ** count, abs=1e-12)


def test_places_stand_where_the_next_step_begins() -> None:
    experience = next(iter(groups(dialogue(), example_logits(dialogue()), 1)))
    (tree,) = experience.trees
    (place,) = step_places(tree)
    assert tree.segments[place.segment].tokens.tolist() == [7] and place.at == 1
    assert np.array_equal(tree.segments[place.segment + 1].tokens, tree.flat.tokens[-1:])
