"""Where a sample is looked at from the middle, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from laurel.algorithms import Branching
from laurel.credit import Place
from laurel.errors import ConfigurationError
from laurel.tree import Ending, Failed, IntArray, Outcome, Score, Segment, Source, Tree

MANY = 1000


def spelled(tokens: IntArray) -> str:
    return "".join(map(chr, tokens.tolist()))


def ids(text: str) -> IntArray:
    return np.array([ord(letter) for letter in text])


def answer(text: str, **more: object) -> Tree:
    """One prompt and one answer of one token per letter."""
    outcome = Outcome(Ending.TERMINATED, "end_token", Score(1.0))
    policy = Segment(Source.POLICY, ids(text), 0, outcome=outcome, rollout_id="t.0")
    return Tree("t", "task", (Segment(Source.PROMPT, ids("?"), -1), replace(policy, **more)))  # type: ignore[arg-type]


def dialogue() -> Tree:
    """?, abc, >>, d, >, efghi: three turns of three, one and five tokens."""
    outcome = Outcome(Ending.TERMINATED, "environment", Score(1.0))
    return Tree(
        "t",
        "task",
        (
            Segment(Source.PROMPT, ids("?"), -1),
            Segment(Source.POLICY, ids("abc"), 0),
            Segment(Source.ENVIRONMENT, ids(">>"), 1),
            Segment(Source.POLICY, ids("d"), 2),
            Segment(Source.ENVIRONMENT, ids(">"), 3),
            Segment(Source.POLICY, ids("efghi"), 4, outcome=outcome, rollout_id="t.0"),
        ),
    )


def at(branching: Branching, tree: Tree) -> list[tuple[int, int]]:
    return [(place.segment, place.at) for place in branching.places(tree, spelled)]


@pytest.mark.parametrize(("every", "places"), [(1, [1, 2, 3, 4]), (2, [2, 4]), (3, [3]), (4, [4]), (5, []), (9, [])])
def test_every_so_many_tokens_but_not_at_the_end(every: int, places: list[int]) -> None:
    assert at(Branching(every=every, budget=MANY), answer("abcde")) == [(1, place) for place in places]


def test_turns_begin_at_places_and_tokens_are_counted_over_them() -> None:
    assert at(Branching(every=MANY, budget=MANY), dialogue()) == [(2, 2), (4, 1)]
    # After tokens 2 (ab|c), 4 (the end of "d", where the environment speaks), 6 (ef|ghi) and 8 (efgh|i).
    assert at(Branching(every=2, budget=MANY), dialogue()) == [(1, 2), (2, 2), (4, 1), (5, 2), (5, 4)]


@pytest.mark.parametrize(
    ("text", "separator", "places"),
    [
        ("ab.cd.e", ".", [3, 6]),
        ("ab.cd.", ".", [3]),  # nothing follows the last
        ("ab..cd", ".", [3, 4]),
        ("a->b->c", "->", [3, 6]),
        ("aaaa", "aa", [2]),
        ("abc", ".", []),
    ],
)
def test_after_each_separator(text: str, separator: str, places: list[int]) -> None:
    assert at(Branching(separator=separator, budget=MANY), answer(text)) == [(1, place) for place in places]


def test_a_token_that_completes_several_separators_is_one_place() -> None:
    def paired(tokens: IntArray) -> str:
        return "".join("x..y"[token] if token else ".." for token in tokens.tolist())

    tree = answer("abc", tokens=np.array([3, 0, 3]))
    assert Branching(separator=".", budget=MANY).places(tree, paired) == [Place(1, 2)]


def test_before_tokens_of_undecided_distributions() -> None:
    branching = Branching(entropy_above=0.5, budget=MANY)
    unknown = np.nan  # the prompt, what the environment said, and whatever nobody measured
    entropies = np.array([unknown, 2.0, 0.5, 0.6, 0.1, 1.0])  # ? a b c d e
    assert branching.places(answer("abcde"), spelled, entropies) == [Place(1, 2), Place(1, 4)]
    # ? abc >> d > efghi: where a later turn begins there is a place anyway.
    spoken = np.array([unknown, 0.9, 0.1, 0.9, unknown, unknown, 0.1, unknown, 0.9, 0.1, 0.9, unknown, 0.9])
    found = branching.places(dialogue(), spelled, spoken)
    assert found == [Place(1, 2), Place(2, 2), Place(4, 1), Place(5, 2), Place(5, 4)]
    assert branching.places(answer("abcde").split(1, 3), spelled, entropies) == [Place(1, 2), Place(2, 1)]
    with pytest.raises(ConfigurationError, match=r"it was not measured(.|\n)*drawn_entropies"):
        at(branching, answer("abc"))


def test_a_budget_takes_the_first_places_of_each_sample() -> None:
    assert at(Branching(every=1, continuations=3, budget=8), answer("abcde")) == [(1, 1), (1, 2)]
    outcome = Outcome(Ending.TERMINATED, "end_token", Score(1.0))
    other = Segment(Source.POLICY, ids("xyz"), 0, outcome=outcome, rollout_id="t.1")
    tree = answer("abcde")
    tree = replace(tree, segments=(*tree.segments, other))
    assert at(Branching(every=1, continuations=3, budget=8), tree) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_continuations_and_failures_are_not_looked_at() -> None:
    failed = Outcome(Ending.FAILED, "environment", Failed("broke"))
    assert at(Branching(every=1, budget=MANY), answer("abc", outcome=failed)) == []
    assert at(Branching(every=1, budget=MANY), answer("abc", rollout_id="t.0@2.1")) == []


def test_parts_of_a_turn_are_one_turn() -> None:
    branching = Branching(separator="b.", budget=MANY)
    tree = answer("ab.cb.d").split(1, 2)  # in the middle of the separator
    assert at(branching, tree) == [(2, 1), (2, 4)]
    assert at(branching, answer("ab.cb.d").split(1, 3)) == [(1, 3), (2, 3)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "follows one rule; given: none"),
        ({"every": 2, "entropy_above": 1.0}, "given: every, entropy_above"),
        ({"separator": ""}, "separator of steps is empty"),
        ({"every": 0}, "every must be a whole number from 1"),
        ({"every": 2.5}, "every must be a whole number from 1"),
        ({"entropy_above": 0.0}, "entropy_above must be more than 0 nats"),
        ({"entropy_above": float("nan")}, "entropy_above must be more than 0 nats"),
        ({"every": 1, "continuations": 0}, "continuations must be a whole number from 1"),
        ({"every": 1, "continuations": 4, "budget": 3}, "no room for the 4"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Branching(**settings)  # type: ignore[arg-type]


def test_no_budget_is_refused_where_places_are_wanted() -> None:
    with pytest.raises(ConfigurationError, match=r"no budget bounds them(.|\n)*budget=36"):
        Branching(every=1).places(answer("abc"), spelled)
