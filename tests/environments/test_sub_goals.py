"""Sub-goals as a potential keep what is best, as a bonus they do not: by listing all plays."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_shaped import TASK, TURNS, Walk, best, played, returns

import laurel
from laurel.environments import Environment, Shaped, SubGoal, SubGoals, runs_in_process
from laurel.errors import ConfigurationError, EnvironmentFault
from laurel.policy import tiny
from laurel.rewards import Grader
from laurel.rewards.sub_goals import Reached, paid_by
from laurel.rollout import Job, LocalSampler
from laurel.tasks import Task
from laurel.tree import Score


def in_the_middle(task: Task, dialogue: tuple[str, ...]) -> bool:
    place = 0
    for move in dialogue[::2]:
        place = place + 1 if move == "r" else max(place - 1, 0)
    return place == 1


MIDDLE = SubGoal(worth=1.2, reached=in_the_middle)
"""It stands while the walk is in the middle place, and is lost when it leaves."""

BACK = SubGoal(worth=1.2, pattern="^1$", said_by="environment")
"""To have been in the middle, once and for all."""


def test_a_potential_keeps_the_best_plays_and_every_bonus_finds_its_own() -> None:
    plain = best(returns(Walk()))
    assert plain == {"rrr", "rrl", "lrr"}
    goals = {"middle": MIDDLE}
    assert best(returns(SubGoals(Walk(), goals))) == plain
    # To and fro between the first place and the middle: two bonuses, and never the goal.
    assert best(returns(SubGoals(Walk(), goals, "bonus_every_turn"))) == {"rlr"}
    # Once does not pay for a third turn, but for a detour: to stay behind twice is worth more than the goal.
    detour = {"patience": SubGoal(worth=1.2, reached=lambda task, dialogue: dialogue[:3:2] == ("l", "l"))}
    assert best(returns(SubGoals(Walk(), detour))) == plain
    assert best(returns(SubGoals(Walk(), detour, "bonus_once"))) == {"lll", "llr"}


def test_what_each_turn_is_paid_by_hand() -> None:
    def paid(shaping: Any, goal: SubGoal, moves: str = "rlr") -> list[float]:
        return played(SubGoals(Walk(), {"one": goal}, shaping), moves)[0]

    # places 1, 0, 1 and over; the potential is 1.2, 0, and 0 since it is over
    assert paid("potential", MIDDLE) == pytest.approx([1.2, -1.2, 0.0])
    assert paid("bonus_every_turn", MIDDLE) == pytest.approx([1.2, 0.0, 1.2])
    assert paid("bonus_once", MIDDLE, "rlr") == pytest.approx([1.2, 0.0, 0.0])  # lost, and not paid again
    # what was reached for good is paid on every further turn by the most naive form
    assert paid("potential", BACK) == pytest.approx([1.2, 0.0, -1.2])
    assert paid("bonus_every_turn", BACK) == pytest.approx([1.2, 1.2, 1.2])
    assert paid("bonus_once", BACK) == pytest.approx([1.2, 0.0, 0.0])


GOALS = st.dictionaries(
    st.sampled_from("abcd"),
    st.builds(
        SubGoal,
        worth=st.floats(-3, 3),
        pattern=st.sampled_from(["r", "l", "0", "1", "[lr]$"]),
        said_by=st.sampled_from(["policy", "environment", "anyone"]),
    ),
    min_size=1,
)


@given(GOALS, st.floats(0.0, 1.0))
def test_whatever_the_sub_goals_every_way_to_play_is_worth_as_before(
    goals: dict[str, SubGoal], discount: float
) -> None:
    """No pattern is found before the first turn, so that not even a constant is taken off."""
    plain, shaped = returns(Walk(), discount), returns(SubGoals(Walk(), goals, discount=discount), discount)
    for moves, earned in plain.items():
        assert shaped[moves] == pytest.approx(earned, abs=1e-9)


@given(GOALS)
def test_it_is_the_potential_of_the_worths_that_stand(goals: dict[str, SubGoal]) -> None:
    made = SubGoals(Walk(), goals)
    again = Shaped(Walk(), lambda task, said: sum(goal.worth for goal in goals.values() if goal.stands(task, said)))
    for moves in ("rr", "rlr", "lll"):
        assert played(made, moves) == (pytest.approx(played(again, moves)[0]), played(again, moves)[1])


def test_what_was_reached_on_the_way_is_told_though_it_was_lost() -> None:
    made = SubGoals(Walk(), {"middle": MIDDLE, "end": SubGoal(0.0, pattern="2")})
    assert made.reached(TASK, ("r", "1", "l", "0", "l")) == {"middle": True, "end": False}
    assert made.reached(TASK, ("l", "0", "r", "1", "r")) == {"middle": True, "end": False}
    assert made.reached(TASK, ("l", "0", "l")) == {"middle": False, "end": False}
    assert SubGoals(Walk(), {"asked": SubGoal(1, reached=lambda t, d: not d)}).reached(TASK, ("l",)) == {"asked": True}


def test_the_grader_writes_it_among_the_parts_of_scores() -> None:
    policy = tiny(alphabet="rlgo012", hidden_size=16, layers=1, heads=2, context_length=64)
    game = SubGoals(Walk(), {"middle": MIDDLE, "left": SubGoal(0.1, pattern="^l", said_by="policy")})
    assert runs_in_process(game) and isinstance(game, Environment)
    limits = laurel.Limits(max_new_tokens=16, max_turns=TURNS)
    trees = LocalSampler(policy, laurel.Sampling(), limits, seed=0).collect(
        [Job("t", TASK, 64, game)], policy_version=0
    )
    with Grader(paid_by(None, game)) as grader:
        (graded,), metrics = grader.grade(trees, {TASK.id: TASK})
    seen: dict[str, list[float]] = {"middle": [], "left": []}
    for before, after in zip(trees[0].rollouts, graded.rollouts, strict=True):
        assert after.outcome is not None and isinstance(after.outcome.score, Score) and after.outcome.score.value == 0
        said = [text for _, text in before.turns[1:]]
        parts = after.outcome.score.parts
        middle = any(in_the_middle(TASK, tuple(said[:end])) for end in range(len(said) + 1))
        assert parts == {"middle": float(middle), "left": float(any(t[:1] == "l" for t in said[::2]))}
        assert after.reward == pytest.approx(sum(segment.reward for segment in before.segments))
        for name, there in parts.items():
            seen[name].append(there)
    for name, values in seen.items():
        assert 0 < sum(values) < 64 and metrics[f"reward/{name}"].mean == sum(values) / 64
    assert isinstance(paid_by(None, game), Reached) and paid_by(None, Walk()) is None
    assert paid_by(laurel.rewards.from_environment(), game) == Reached(game)
    assert paid_by(laurel.rewards.exact_match(), game) == laurel.rewards.exact_match()


def test_sub_goals_of_a_game_are_asked_about_its_task() -> None:
    game = SubGoals(Walk(), {"mine": SubGoal(1.0, reached=lambda task, dialogue: task.id == "walk" and bool(dialogue))})
    assert game.worth(TASK, ()) == 0 and game.worth(TASK, ("l",)) == 1 and game.worth(Task("t", "go"), ("l",)) == 0


def test_a_pattern_is_looked_for_in_the_texts_of_whom_it_names() -> None:
    dialogue = ("ab", "xy", "c", "z")
    for who, found in (("policy", "abc"), ("environment", "xyz"), ("anyone", "abcxyz")):
        said = [c for c in "abcxyzq" if SubGoal(1.0, c, who).stands(TASK, dialogue)]  # type: ignore[arg-type]
        assert "".join(said) == found
    assert SubGoal(1.0, "^b").stands(TASK, dialogue) is False and SubGoal(1.0, "^z$").stands(TASK, dialogue)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: SubGoal(1.0), "by a pattern or by a function"),
        (lambda: SubGoal(1.0, pattern="a", reached=lambda t, d: True), "by a pattern or by a function"),
        (lambda: SubGoal(1.0, said_by="policy", reached=lambda t, d: True), "'said_by' would not be read"),
        (lambda: SubGoal(float("nan"), pattern="a"), "finite number, got nan"),
        (lambda: SubGoal(1.0, pattern="("), "no regular expression"),
        (lambda: SubGoal(1.0, pattern="a", said_by="nobody"), "is nobody"),  # type: ignore[arg-type]
        (lambda: SubGoals(Walk(), {}), "no sub-goal"),
        (lambda: SubGoals(Walk(), {"m": MIDDLE}, "bonus"), "is unknown"),  # type: ignore[arg-type]
        (lambda: SubGoals(Walk(), {"m": MIDDLE}, "bonus_once", 0.9), "'discount' would not be read"),
        (lambda: SubGoals(Walk(), {"m": MIDDLE}, discount=1.1), r"\[0, 1\]"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        wrong()


@pytest.mark.parametrize("shaping", ["potential", "bonus_once"])
def test_a_function_that_says_neither_true_nor_false_is_a_fault(shaping: Any) -> None:
    game = SubGoals(Walk(), {"odd": SubGoal(1.0, reached=lambda task, dialogue: 1)}, shaping)  # type: ignore[arg-type,return-value]
    with pytest.raises(EnvironmentFault, match="reached after 0 texts is 1"):
        game.start(TASK, "r")
