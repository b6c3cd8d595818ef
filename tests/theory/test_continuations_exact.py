"""Monte-Carlo values are unbiased, and so is the gradient that is made of them: by listing all that can be drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from laurel.algorithms import Branching, vine_ppo
from laurel.credit import Credit, LeaveOneOut, MonteCarloValues, cut, is_continuation, segment_values
from laurel.credit.fans import spread
from laurel.objectives import ConstantLength, PolicyGradient
from laurel.theory import (
    World,
    audit,
    compare,
    example_dialogue,
    example_logits,
    example_world,
    gradient_distribution,
    groups,
    history_values,
    return_gradient,
    single_turn,
    token_histories,
    with_continuations,
)
from laurel.theory.audit import Audit
from laurel.tree import FloatArray, Source, Tree

MANY = 100


def letters() -> World:
    """ "b" ends an answer, and three letters cut it off: b, ab, aab, aaa. Places have others behind them."""
    worth = {(1,): 0.3, (0, 1): 1.0, (0, 0, 1): -0.5, (0, 0, 0): 0.6}
    return single_turn(vocabulary=2, horizon=3, score=worth.__getitem__, end=1)


LETTERS = letters()


@cache
def audited(
    world: World,
    branching: Branching,
    *,
    samples: int = 2,
    credit: Callable[[Sequence[Tree]], list[Credit]] | None = None,
) -> Audit:
    logits = example_logits(world)
    drawn = list(with_continuations(world, logits, groups(world, logits, samples), branching))
    assert abs(sum(experience.probability for experience in drawn) - 1) < 1e-12
    assert any(is_continuation(r.id) for experience in drawn for r in experience.trees[0].rollouts)
    estimated = gradient_distribution(
        drawn, logits, credit=credit or MonteCarloValues(), losses=(PolicyGradient(),), reduction=ConstantLength(1.0)
    )
    return compare("", samples, estimated, return_gradient(world, logits))


@pytest.mark.parametrize(
    ("world", "branching"),
    [
        (example_world(), Branching(every=1, continuations=1, budget=MANY)),
        (example_world(), Branching(entropy_above=0.88, continuations=1, budget=MANY)),  # after one token of the three
        (example_dialogue(), Branching(entropy_above=0.65, continuations=1, budget=MANY)),
        (example_dialogue(), Branching(every=MANY, continuations=1, budget=MANY)),  # where the environment has spoken
        (LETTERS, Branching(every=1, continuations=1, budget=MANY)),
        (LETTERS, Branching(every=1, continuations=1, budget=1)),  # the first place of a sample only
        (LETTERS, Branching(every=2, continuations=3, budget=MANY)),
        (LETTERS, Branching(separator="aa", continuations=1, budget=MANY)),
        (LETTERS, Branching(entropy_above=0.6, continuations=1, budget=MANY)),
        (LETTERS, Branching(entropy_above=0.4, continuations=1, budget=1)),
    ],
)
def test_the_expected_gradient_is_exact(world: World, branching: Branching) -> None:
    found = audited(world, branching)
    assert found.bias < 1e-10 and abs(found.scale - 1) < 1e-10


def test_places_stand_where_the_exact_entropy_is_high() -> None:
    logits = example_logits(LETTERS)
    table = torch.log_softmax(logits, -1)
    exact = (-(table.exp() * table).sum(-1)).tolist()
    threshold = sum(exact[1:]) / 2  # between the two states that are no prompt
    kept = 0
    for experience in with_continuations(
        LETTERS, logits, groups(LETTERS, logits, 1), Branching(entropy_above=threshold, continuations=1, budget=MANY)
    ):
        (tree,) = experience.trees
        histories = token_histories(tree)
        for index, segment in enumerate(tree.segments):
            if segment.source is not Source.POLICY or is_continuation(segment.rollout_id):
                continue
            first = int(tree.flat.starts[index])
            for token in range(first, int(tree.flat.ends[index])):
                wanted = exact[LETTERS.states[histories[token]]] > threshold
                begins = token == first and tree.segments[segment.parent].source is Source.POLICY
                assert begins == (wanted and len(histories[token]) > 0)
                kept += begins
    assert kept


def test_more_continuations_and_earlier_values_mean_less_noise() -> None:
    one, three = (audited(LETTERS, Branching(every=2, continuations=k, budget=MANY)).variance for k in (1, 3))
    everywhere = audited(LETTERS, Branching(every=1, continuations=1, budget=MANY))
    plain = audited(LETTERS, Branching(every=2, continuations=1, budget=MANY), credit=_without_continuations)
    assert three < one < plain.variance and everywhere.variance < plain.variance


def _without_continuations(trees: Sequence[Tree]) -> list[Credit]:
    """What `LeaveOneOut` says of the samples alone: continuations are as if they had failed."""
    credits = []
    for tree in trees:
        own = np.array([not is_continuation(tree.segments[leaf].rollout_id) for leaf in tree.leaves])
        returns = np.where(own, [rollout.reward for rollout in tree.rollouts], np.nan)
        (credit,) = LeaveOneOut(returns=lambda _, known=returns: known)([tree])
        credits.append(credit)
    return credits


def test_counting_the_step_itself_in_the_value_of_its_start_would_be_biased() -> None:
    def mean_of_all(trees: Sequence[Tree]) -> list[Credit]:
        credits = []
        for tree in trees:
            returns = np.array([rollout.reward for rollout in tree.rollouts])
            own = np.array([not is_continuation(tree.segments[leaf].rollout_id) for leaf in tree.leaves])
            values = segment_values(tree, returns)
            starts = np.array([values[max(segment.parent, 0)] for segment in tree.segments])
            credits.append(spread(tree, values - starts, own))
        return credits

    branching = Branching(every=1, continuations=1, budget=MANY)
    assert audited(LETTERS, branching, credit=mean_of_all).bias > 0.1


@dataclass(frozen=True)
class BestFirst(Branching):
    """Where the largest token of a whole sample follows, which the tokens before the place do not tell."""

    def places(self, tree: Tree, *rest: Any) -> list:  # type: ignore[type-arg]
        largest = {leaf: int(np.argmax(tree.segments[leaf].tokens)) for leaf in tree.leaves}
        return [place for place in super().places(tree, *rest) if place.at == largest[place.segment]]


def test_choosing_places_by_what_follows_would_be_biased() -> None:
    assert audited(LETTERS, BestFirst(every=1, continuations=1, budget=MANY)).bias > 1e-3


@pytest.mark.parametrize("world", [example_world(), example_dialogue()])
def test_the_value_of_a_place_is_unbiased_against_the_exact_one(world: World) -> None:
    logits = example_logits(world)
    branching = Branching(every=1, continuations=2, budget=MANY)
    exact = history_values(world, logits)
    mass: dict[tuple[int, ...], float] = {}
    seen: dict[tuple[int, ...], float] = {}
    for experience in with_continuations(world, logits, groups(world, logits, 1), branching):
        (tree,) = experience.trees
        for history, value in _values(tree):
            mass[history] = mass.get(history, 0.0) + experience.probability
            seen[history] = seen.get(history, 0.0) + experience.probability * value
    assert len(seen) == len(exact) - 1  # all but the prompt, where no continuations are drawn
    for history, worth in seen.items():
        assert worth / mass[history] == pytest.approx(exact[history], abs=1e-10)


def _values(tree: Tree) -> list[tuple[tuple[int, ...], float]]:
    """The mean of what the continuations of each place still earned, with the place's history."""
    histories = token_histories(tree)
    found = []
    for index, below in enumerate(tree.children):
        fresh = [child for child in below if is_continuation(tree.segments[child].rollout_id)]
        if not fresh:
            continue
        earned = [
            rollout.reward - sum(tree.segments[above].reward for above in tree.path(index))
            for rollout in tree.rollouts
            if set(fresh) & set(tree.path(rollout.leaf))
        ]
        last = int(tree.flat.ends[index]) - 1
        found.append(((*histories[last], int(tree.flat.tokens[last])), float(np.mean(earned))))
    return found


def test_the_audit_knows_the_method() -> None:
    for found in (audit(vine_ppo()), audit(vine_ppo(every=1)), audit(vine_ppo(entropy_above=0.3, budget=9))):
        assert found.cosine > 0.99
    # TokenMean divides by the tokens of a group: two samples of one or two tokens.
    assert 0.4 < audit(vine_ppo()).scale < 0.7


def test_cutting_changes_no_return() -> None:
    world = example_dialogue()
    logits = example_logits(world)
    for experience in list(groups(world, logits, 2))[:20]:
        (tree,) = experience.trees
        flat: FloatArray = tree.flat.tokens.astype(float)
        branching = Branching(every=1, continuations=1, budget=MANY)
        pieces, _ = cut(tree, branching.places(tree, lambda tokens: ""))
        assert np.array_equal(pieces.flat.tokens, flat) and np.array_equal(pieces.flat.parent, tree.flat.parent)
        assert [r.reward for r in pieces.rollouts] == [r.reward for r in tree.rollouts]
        assert sum(s.source is Source.POLICY for s in pieces.segments) > sum(
            s.source is Source.POLICY for s in tree.segments
        )
    assert torch.isfinite(logits).all()
