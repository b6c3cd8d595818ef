"""Turns that began in the same state are compared: by hand, as identities, and against the exact gradient."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

import numpy as np
import pytest

import laurel
from laurel.algorithms import METHODS, gigpo, grpo
from laurel.credit import AnchorStates, LeaveOneOut, SiblingMean, Standardised
from laurel.errors import ConfigurationError
from laurel.objectives import ConstantLength
from laurel.recipe import component
from laurel.theory import audit, example_dialogue
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree


def rollout(tree: list[Segment], name: str, turns: str, score: float | None, rewards: tuple[float, ...] = ()) -> None:
    """ "a X b" below the prompt: the policy says a, reads X, says b. Letters are their own tokens."""
    parent = 0
    said = turns.split()
    for place, letters in enumerate(said):
        drawn = place % 2 == 0
        last = place == len(said) - 1
        outcome = Outcome(Ending.TERMINATED, "end", Failed("broken") if score is None else Score(score))
        segment = Segment(
            Source.POLICY if drawn else Source.ENVIRONMENT,
            np.array([ord(letter) for letter in letters]),
            parent,
            text=letters,
            reward=rewards[place // 2] if drawn and rewards else 0.0,
            outcome=outcome if last else None,
            rollout_id=name if drawn else None,
        )
        tree.append(segment)
        parent = len(tree) - 1


def walks() -> Tree:
    """Four rollouts from A. Three come by M, one of them by another way and one turn later; the last one breaks."""
    segments = [Segment(Source.PROMPT, np.array([1, 2]), -1, text="go")]
    rollout(segments, "r.0", "a M c", 0.0)
    rollout(segments, "r.1", "b N d M e", 1.0)
    rollout(segments, "r.2", "a M e", 1.0)
    rollout(segments, "r.3", "a M c", None)
    return Tree("t", "t", tuple(segments))


def said(tree: Tree, advantages: np.ndarray) -> dict[str, float]:
    """The advantage of each turn, as rollout and letter."""
    found = {}
    for index, segment in enumerate(tree.segments):
        if segment.source is Source.POLICY:
            values = set(advantages[tree.flat.segment == index].tolist())
            assert len(values) == 1
            found[f"{segment.rollout_id} {segment.text}"] = values.pop()
    return found


def test_turns_are_compared_with_those_from_the_same_observation_by_hand() -> None:
    """From the start the three live rollouts earned 0, 1, 1; from M again 0, 1, 1; from N one, with nobody beside."""
    tree = walks()
    rule = AnchorStates(weight=0.5, discount=1.0, baseline="mean")
    start = {"r.0 a": -2 / 3, "r.1 b": 1 / 3, "r.2 a": 1 / 3}
    turns = {**start, "r.0 c": -2 / 3, "r.1 d": 0.0, "r.1 e": 1 / 3, "r.2 e": 1 / 3, "r.3 a": 0.0, "r.3 c": 0.0}
    of_turns = said(tree, rule.turn_advantages(tree)[tree.flat.segment])
    assert of_turns == pytest.approx(turns)
    whole = {"r.0": -2 / 3, "r.1": 1 / 3, "r.2": 1 / 3, "r.3": 0.0}
    (credit,) = rule([tree])
    assert said(tree, credit.advantages) == pytest.approx(
        {name: (whole[name[:3]] + 0.5 * own) * (name[:3] != "r.3") for name, own in turns.items()}
    )
    (plain,) = SiblingMean()([tree])
    assert (credit.mask == plain.mask).all() and not credit.mask[tree.flat.segment == len(tree.segments) - 1].any()


def test_what_a_state_is_decides_who_is_compared() -> None:
    tree = walks()

    def of(state: object) -> dict[str, float]:
        rule = AnchorStates(discount=1.0, baseline="mean", state=state)  # type: ignore[arg-type]
        return said(tree, rule.turn_advantages(tree)[tree.flat.segment])

    # By the whole history r.1 came to M as nobody else did.
    assert of("history")["r.1 e"] == 0 and of("history")["r.0 c"] == -0.5 and of("history")["r.2 e"] == 0.5
    seen: list[tuple[str, ...]] = []

    def last(dialogue: tuple[str, ...]) -> Hashable:
        seen.append(dialogue)
        return dialogue[-1:]

    assert of(last) == of("observation")
    assert seen == [(), ("a", "M"), (), ("b", "N"), ("b", "N", "d", "M"), (), ("a", "M")]
    assert of(lambda dialogue: len(dialogue))["r.1 d"] == pytest.approx(1 / 3)  # second turns with each other


def test_what_is_still_to_come_is_discounted_by_turns_and_leaves_out_what_was_paid_before() -> None:
    segments = [Segment(Source.PROMPT, np.array([1]), -1)]
    rollout(segments, "r.0", "a M c", 1.0, (0.5, 0.25))
    rollout(segments, "r.1", "b M d", 0.0, (2.0, 0.0))
    tree = Tree("t", "t", tuple(segments))
    found = said(tree, AnchorStates(discount=0.5, baseline="leave_one_out").turn_advantages(tree)[tree.flat.segment])
    first, second = 0.5 + 0.5 * 1.25, 2.0
    assert found == pytest.approx({"r.0 a": first - second, "r.1 b": second - first, "r.0 c": 1.25, "r.1 d": -1.25})


def test_a_turn_in_several_segments_is_one_and_a_state_met_twice_counts_twice() -> None:
    segments = [Segment(Source.PROMPT, np.array([1]), -1)]
    rollout(segments, "r.0", "ab M c M d", 1.0)
    rollout(segments, "r.1", "a M c", 0.0)
    whole = Tree("t", "t", tuple(segments))
    rule = AnchorStates(discount=0.5, baseline="mean")
    of_whole = rule([whole])[0]
    assert said(whole, rule.turn_advantages(whole)[whole.flat.segment]) == pytest.approx(
        {"r.0 ab": 0.125, "r.1 a": -0.125, "r.0 c": 0.5 - 0.5, "r.0 d": 1 - 0.5, "r.1 c": 0 - 0.5}
    )
    cut = whole.split(1, 1)
    np.testing.assert_allclose(rule([cut])[0].advantages, of_whole.advantages)


@pytest.mark.parametrize(
    ("baseline", "rule"),
    [("mean", SiblingMean()), ("leave_one_out", LeaveOneOut()), ("deviation", Standardised())],
)
def test_in_one_turn_it_is_the_comparison_of_the_whole_and_without_weight_it_always_is(baseline, rule) -> None:  # type: ignore[no-untyped-def]
    segments = [Segment(Source.PROMPT, np.array([1]), -1)]
    for number, score in enumerate((0.0, 0.25, 1.0)):
        rollout(segments, f"r.{number}", "xyz"[number], score)
    tree = Tree("t", "t", tuple(segments))
    (twice,), (once,) = AnchorStates(1.0, baseline=baseline)([tree]), rule([tree])
    np.testing.assert_allclose(twice.advantages, 2 * once.advantages, atol=1e-12)
    (alone,), (plain,) = AnchorStates(0.0, baseline=baseline)([walks()]), rule([walks()])
    np.testing.assert_allclose(alone.advantages, plain.advantages, atol=1e-12)


STATES: dict[str, tuple[str | Callable[[tuple[str, ...]], Hashable], float, float]] = {
    "observation": ("observation", 1.4954, 0.9927),
    "history": ("history", 1.4954, 0.9927),
    "turn": (len, 2.0, 1.0),
}


@pytest.mark.parametrize("name", STATES)
def test_how_far_it_is_from_the_exact_gradient(name: str) -> None:
    """Where each rollout comes by each state once it is exact, 1 + weight times; also though "turn" merges states that
    have another future. Where the first turn decides which state is met, two samples often have nobody beside."""
    state, scale, cosine = STATES[name]
    made = replace(gigpo(discount=1.0, state=state, baseline="leave_one_out"), reduction=ConstantLength())  # type: ignore[arg-type]
    found = audit(made, example_dialogue())
    assert found.scale == pytest.approx(scale, abs=1e-4) and found.cosine == pytest.approx(cosine, abs=1e-4)
    if cosine == 1:
        assert found.scale == pytest.approx(2, abs=1e-10) and found.cosine == pytest.approx(1, abs=1e-10)
    shrunk = replace(made, credit=replace(made.credit, baseline="mean"))  # type: ignore[type-var]
    assert audit(shrunk, example_dialogue()).scale == pytest.approx(scale / 2, abs=1e-4)  # 1 - 1/2 of both parts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"discount": 1.5}, "discount"),
        ({"weight": -1.0}, "weight must be at least 0"),
        ({"baseline": "median"}, "Unknown baseline 'median'"),
        ({"state": "place"}, "Unknown state 'place'"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        gigpo(**settings)  # type: ignore[arg-type]


def test_without_weight_gigpo_is_grpo() -> None:
    assert laurel.gigpo(weight=0.0).reduction == grpo().reduction and laurel.gigpo().objective == grpo().objective


def by_length(dialogue: tuple[str, ...]) -> Hashable:
    return len(dialogue)


def test_a_recipe_names_the_state() -> None:
    def made(state: str) -> object:
        return component("algorithm", METHODS, {"name": "gigpo", "state": state}).credit.state

    assert made("history") == "history" and made("test_anchor_states:by_length") is by_length
    with pytest.raises(ConfigurationError, match="state"):
        made("place")
