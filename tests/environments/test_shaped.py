"""Shaping by a potential keeps the best policies, a bonus for the same progress does not: by listing all plays."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import laurel
from laurel.environments import Conversation, Dialogue, Environment, Shaped, Turn, runs_in_process
from laurel.errors import ConfigurationError, EnvironmentFault
from laurel.policy import tiny
from laurel.rollout import Job, LocalSampler
from laurel.tasks import Task
from laurel.tree import Ending

TASK = Task("walk", "go")
TURNS = 3


@dataclass(frozen=True)
class Walk(Conversation):
    """Three places in a line: "r" leads on, all else back; 1 for the last, which ends it, `bonus` for the middle."""

    bonus: float = 0.0
    cut: bool = False
    runs_in_process: ClassVar[bool] = True

    def converse(self, task: Task, rollout_id: str) -> Dialogue:
        text, place = (yield "go"), 0
        for turn in range(1, TURNS + 1):
            place = place + 1 if text == "r" else max(place - 1, 0)
            paid = self.bonus if place == 1 else float(place == 2)
            if place == 2:
                return paid
            if turn == TURNS:
                return Turn(reward=paid, ending=Ending.TRUNCATED if self.cut else Ending.TERMINATED)
            text = yield Turn(str(place), paid)
        raise AssertionError


def played(environment: Environment, moves: str) -> tuple[list[float], Ending]:
    """What the turns earned, and how it ended; moves after the end are not made."""
    episode, earned = environment.start(TASK, "r"), []
    for move in moves:
        turn = episode.respond(move)
        earned.append(turn.reward)
        if turn.ending is not None:
            return earned, turn.ending
    raise AssertionError


def returns(environment: Environment, discount: float = 1.0) -> dict[str, float]:
    """The return of every way to play."""
    plays = map("".join, itertools.product("rl", repeat=TURNS))
    return {moves: sum(r * discount**t for t, r in enumerate(played(environment, moves)[0])) for moves in plays}


def best(found: dict[str, float]) -> set[str]:
    return {moves for moves, earned in found.items() if earned == pytest.approx(max(found.values()))}


def progress(task: Task, dialogue: tuple[str, ...]) -> float:
    """1.2 in the middle: what the bonus pays there."""
    return 1.2 * float(dialogue[-1]) if dialogue[1:] else 0.0


def test_a_bonus_for_a_sub_goal_is_collected_and_a_potential_leads_to_the_goal() -> None:
    plain = returns(Walk())
    assert best(plain) == {"rrr", "rrl", "lrr"}
    assert best(returns(Walk(bonus=1.2))) == {"rlr"}  # to and fro, and never there
    assert best(returns(Shaped(Walk(), progress))) == best(plain)
    # The first turn is paid at once for leading there, and the second takes it back.
    assert played(Shaped(Walk(), progress), "rr")[0] == pytest.approx([1.2, 1 - 1.2])


TABLES = st.lists(st.floats(-5, 5), min_size=9, max_size=9)


def by_table(table: list[float]) -> Callable[[Task, tuple[str, ...]], float]:
    """Any function of the dialogue: what was said counts as a number."""
    return lambda task, dialogue: table[sum(ord(c) * 3**n for n, c in enumerate("".join(dialogue))) % len(table)]


@given(TABLES, st.floats(0.0, 1.0))
def test_whatever_the_potential_every_way_to_play_loses_the_same(table: list[float], discount: float) -> None:
    plain, shaped = returns(Walk(), discount), returns(Shaped(Walk(), by_table(table), discount), discount)
    for moves, earned in plain.items():
        assert shaped[moves] == pytest.approx(earned - by_table(table)(TASK, ()), abs=1e-9)


@given(TABLES)
def test_what_is_cut_off_keeps_the_potential_that_it_reached(table: list[float]) -> None:
    potential = by_table(table)
    earned, ending = played(Shaped(Walk(cut=True), potential), "lll")
    assert ending is Ending.TRUNCATED
    assert sum(earned) == pytest.approx(potential(TASK, ("l", "0", "l", "0", "l")) - potential(TASK, ()), abs=1e-9)


def test_the_sampler_plays_it() -> None:
    policy = tiny(alphabet="rlgo012", hidden_size=16, layers=1, heads=2, context_length=64)
    limits = laurel.Limits(max_new_tokens=16, max_turns=TURNS)
    game = Shaped(Walk(), lambda task, dialogue: 0.25 * len(dialogue))
    assert runs_in_process(game) and isinstance(game, Environment)
    job = Job("t", TASK, 32, game)
    (tree,) = LocalSampler(policy, laurel.Sampling(), limits, seed=0).collect([job], policy_version=0)
    paid = set()
    for rollout in tree.rollouts:
        episode, path = game.start(TASK, "again"), tree.path(rollout.leaf)
        for index, following in zip(path, [*path[1:], None], strict=True):
            segment = tree.segments[index]
            ended = segment.outcome is not None and segment.outcome.ending is Ending.TERMINATED
            if segment.sampling is not None and (following is not None or ended):
                assert segment.reward == episode.respond(segment.text).reward
                paid.add(round(segment.reward, 3))
    assert paid == {0.5, -1.0}  # on the way, and at the end


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), None, "1", True])
def test_a_potential_that_is_no_number_is_a_fault(wrong: object) -> None:
    with pytest.raises(EnvironmentFault, match="The potential of task walk after 0 texts"):
        Shaped(Walk(), lambda task, dialogue: wrong).start(TASK, "r")  # type: ignore[arg-type,return-value]
    with pytest.raises(ConfigurationError, match=r"\[0, 1\]"):
        Shaped(Walk(), progress, 1.5)
