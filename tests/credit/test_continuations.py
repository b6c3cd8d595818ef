"""Monte-Carlo values by hand, and cutting trees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credit import LeaveOneOut, MonteCarloValues, Place, continuation_name, continued, cut, is_continuation
from laurel.errors import TreeError
from laurel.objectives import ConstantLength, SequenceMean, TokenMean
from laurel.theory import random_tree
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree


def leaf(score: float | None) -> Outcome:
    if score is None:
        return Outcome(Ending.TERMINATED, "end_token", Failed("the grader broke"))
    return Outcome(Ending.TERMINATED, "end_token", Score(score))


def policy(tokens: int, parent: int, rollout: str, score: float | None = None, *, over: bool = True) -> Segment:
    return Segment(Source.POLICY, np.full(tokens, 7), parent, outcome=leaf(score) if over else None, rollout_id=rollout)


def example(own: float | None = 1.0, fresh: tuple[float | None, ...] = (0.0, 0.5), other: float = 0.25) -> Tree:
    """The picture of the module: sample 0 is cut after two tokens, where continuations go on; sample 1 is whole."""
    segments = [
        Segment(Source.PROMPT, np.array([1]), -1),
        policy(2, 0, "t.0", over=False),
        policy(3, 1, "t.0", own),
        *(policy(2, 1, f"t.0@3.{index}", score) for index, score in enumerate(fresh)),
        policy(3, 0, "t.1", other),
    ]
    return Tree("t", "task", tuple(segments))


def test_each_step_gets_what_its_end_is_worth_beyond_its_start() -> None:
    (credit,) = MonteCarloValues()([example()])
    # V(end of a a) = (1 + 0 + 0.5) / 3 = 0.5, V(prompt) without it = 0.25; V(place) without b b b = 0.25.
    expected = [0, 0.25, 0.25, 0.75, 0.75, 0.75, 0, 0, 0, 0, -0.25, -0.25, -0.25]
    np.testing.assert_allclose(credit.advantages, expected, atol=1e-15)
    assert credit.mask.tolist() == [False, *[True] * 5, *[False] * 4, *[True] * 3]


def test_a_failed_continuation_leaves_the_mean() -> None:
    (credit,) = MonteCarloValues()([example(fresh=(0.0, None))])
    np.testing.assert_allclose(credit.advantages[1:6], [0.25, 0.25, 1, 1, 1])  # V(end) = 1/2, V(place) = 0


def test_a_place_whose_continuations_all_failed_is_as_if_it_were_not_there() -> None:
    (credit,) = MonteCarloValues()([example(fresh=(None, None))])
    np.testing.assert_allclose(credit.advantages[1:6], 0.75)


def test_a_failed_sample_teaches_nothing_and_its_continuations_still_inform_the_others() -> None:
    (credit,) = MonteCarloValues()([example(own=None, fresh=(1.0, 0.0))])
    assert credit.mask.tolist() == [False] * 10 + [True] * 3
    np.testing.assert_allclose(credit.advantages[-3:], 0.25 - 0.5)


def test_rewards_before_a_place_do_not_count_for_what_follows_it() -> None:
    tree = example()
    paid = replace(tree, segments=(tree.segments[0], replace(tree.segments[1], reward=5.0), *tree.segments[2:]))
    before, after = MonteCarloValues()([tree])[0], MonteCarloValues()([paid])[0]
    np.testing.assert_allclose(after.advantages[3:6], before.advantages[3:6])
    np.testing.assert_allclose(after.advantages[1:3], before.advantages[1:3] + 5)


@pytest.mark.parametrize("reduction", [TokenMean(), SequenceMean(), ConstantLength(1.0)])
def test_continuations_weigh_nothing(reduction: TokenMean | SequenceMean | ConstantLength) -> None:
    tree, mask = example(), MonteCarloValues()([example()])[0].mask
    plain = Tree("t", "task", tuple(s for s in tree.segments if not is_continuation(s.rollout_id)))
    plain_mask = LeaveOneOut()([plain])[0].mask
    (weights,), (expected,) = reduction([tree], [mask]), reduction([plain], [plain_mask])
    np.testing.assert_allclose(weights[mask], expected[plain_mask])
    assert not weights[~mask].any()


def test_without_places_it_is_leave_one_out() -> None:
    for seed in range(20):
        tree = random_tree(np.random.default_rng(seed))
        one, other = MonteCarloValues()([tree])[0], LeaveOneOut()([tree])[0]
        assert np.array_equal(one.advantages, other.advantages) and np.array_equal(one.mask, other.mask)


def test_names() -> None:
    name = continuation_name("3.1.2", 17, 4)
    assert name == "3.1.2@17.4" and is_continuation(name) and continued(name) == "3.1.2"
    assert not is_continuation("3.1.2") and not is_continuation(None)
    again = continuation_name(name, 20, 0)
    assert is_continuation(again) and continued(again) == "3.1.2"


@given(st.integers(0, 10_000), st.data())
def test_cutting_at_many_places_is_splitting_at_each(seed: int, data: st.DataObject) -> None:
    tree = random_tree(np.random.default_rng(seed))
    everywhere = [Place(i, at) for i, s in enumerate(tree.segments) for at in range(1, len(s) + 1)]
    places = data.draw(st.lists(st.sampled_from(everywhere), max_size=8))
    pieces, ends = cut(tree, places)
    split = tree
    for place in sorted({place for place in places if place.at < len(tree.segments[place.segment])}, reverse=True):
        split = split.split(place.segment, place.at)
    assert len(pieces.segments) == len(split.segments)
    for one, other in zip(pieces.segments, split.segments, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert (one.parent, one.source, one.text, one.outcome, one.reward) == (
            other.parent, other.source, other.text, other.outcome, other.reward,
        )  # fmt: skip
    for place, end in zip(places, ends, strict=True):
        assert pieces.flat.ends[end] == tree.flat.starts[place.segment] + place.at


def test_a_place_that_is_not_there() -> None:
    for place in (Place(9, 1), Place(1, 0), Place(1, 3), Place(-1, 1)):
        with pytest.raises(TreeError, match="there is no Place"):
            cut(example(), [place])
