"""A proof step by step: what is answered, what is refused, and that only a verified proof is paid."""

from __future__ import annotations

import itertools

import pytest

from laurel.environments import ENVIRONMENTS, Metamath, Turn
from laurel.errors import ConfigurationError, FormalError, TaskError
from laurel.recipe import component
from laurel.rewards import metamath_proof
from laurel.tasks import Task
from laurel.tasks.theorems import theorems
from laurel.tree import Ending

GAME = Metamath()
IDENTITY = Task("identity", "Cpp:", "21D1D", {"statement": "|- C p p"})
LOST, WON = Turn(None, 0.0, Ending.TERMINATED), Turn(None, 1.0, Ending.TERMINATED)


def test_one_proof_turn_by_turn():
    """Cpp by D(D21)1, from its end; by hand. Open parts are numbered in the order in which they occur."""
    episode = GAME.start(IDENTITY, "t.0")
    assert episode.prompt == "Cpp:"
    assert episode.respond("D") == Turn("C1Cpp|1:")
    assert episode.respond(" D\n") == Turn("C1C2Cpp|1|2:")
    # 2 reads C C a C b c C C a b C a c, so 1 is C p C b p, and 2 is C p b.
    assert episode.respond("2") == Turn("CpC1p|Cp1:")
    assert episode.respond("2") == Turn("no CpC1p|Cp1:")
    # 1 reads C a C b a: b is what is open.
    assert episode.respond("1") == Turn("Cp1:")
    assert episode.respond("1") == WON


@pytest.mark.parametrize("text", ["", "goal", "DD", "wp", "2", "$a |- C p p $.", "?", "D.1"])
def test_an_impossible_step_costs_its_turn_and_changes_nothing(text: str):
    episode = Metamath(turns=6).start(IDENTITY, "t.0")
    assert episode.respond(text) == Turn("no Cpp:")
    for label in "DD21":
        episode.respond(label)
    assert episode.respond("1") == WON
    short = Metamath(turns=5).start(IDENTITY, "t.0")
    for label in (text, *"DD21"):
        last = short.respond(label)
    assert last == LOST


def test_a_theorem_is_not_its_own_tactic():
    game = Metamath(database="propositional")
    assert game.start(IDENTITY, "t.0").respond("I") == Turn("no Cpp:")
    assert game.start(Task("b", "x", None, {"statement": "|- C q C p p"}), "t.0").respond("I") == Turn("no CqCpp:")
    assert game.start(Task("c", "x", None, {"statement": "|- C N p N p"}), "t.0").respond("I") == WON
    syllogism = game.start(Task("d", "x", None, {"theorem": "S"}), "t.0")
    assert syllogism.respond("S") == Turn("no Cpr:")
    assert syllogism.respond("D") == Turn("C1Cpr|1:")


def test_what_is_won_here_is_a_proof_there():
    """The steps of every generated proof, in the order of goals, win; and the reward agrees."""
    reward = metamath_proof()
    for task in theorems(count=60, steps=2):
        stack: list[str] = []
        for label in task.reference or "":
            if label == "D":
                major, minor = stack[-2:]
                stack[-2:] = [f"D{major}{minor}"]
            else:
                stack.append(label)
        episode = GAME.start(task, "t.0")
        turns = [episode.respond(label) for label in stack[0]]
        assert turns[-1] == WON and all(turn.ending is None for turn in turns[:-1])
        assert reward(task, task.reference or "") == 1


def played(episode, labels):
    """The turns up to the end of the episode."""
    for label in labels:
        turn = episode.respond(label)
        yield turn
        if turn.ending is not None:
            return


def test_any_steps_win_only_where_the_reward_agrees():
    """Every sequence of five labels on Cpp: those that win are, put together, a proof for the reward."""
    won = []
    for labels in itertools.product("12D", repeat=5):
        episode = Metamath(turns=5).start(IDENTITY, "t.0")
        *_, last = played(episode, labels)
        if last == WON:
            won.append("".join(labels))
    assert won == ["DD211"]


def test_few_goals_are_shown_and_long_names_stand_apart(tmp_path):
    (tmp_path / "long.mm").write_text(
        "$c ( -> ) wff |- $. $v ph ps $. wph $f wff ph $. wps $f wff ps $. wi $a wff ( ph -> ps ) $.\n"
        "ax-1 $a |- ( ph -> ( ps -> ph ) ) $. ${ m $e |- ph $. n $e |- ( ph -> ps ) $. mp $a |- ps $. $}"
    )
    game = Metamath(database=str(tmp_path / "long.mm"), shown_goals=2)
    episode = game.start(Task("a", "prove", None, {"statement": "|- ( ph -> ( ps -> ph ) )"}), "t.0")
    assert episode.respond("mp") == Turn("1|( 1 -> ( ph -> ( ps -> ph ) ) ):")
    assert episode.respond("mp") == Turn("1|( 1 -> 2 ):")


def test_settings_and_tasks_that_fit_nothing_are_refused():
    for settings in ({"turns": 0}, {"turns": 101}, {"shown_goals": 0}):
        with pytest.raises(ConfigurationError, match="no game"):
            Metamath(**settings)
    with pytest.raises(FormalError, match="no database"):
        Metamath(database="peano")
    for data in ({}, {"statement": "|- C p"}, {"theorem": "fermat"}):
        with pytest.raises(TaskError, match="Task row 3"):
            GAME.start(Task("row 3", "x", None, data), "t.0")
    assert component("environment", ENVIRONMENTS, {"name": "metamath", "turns": 5}) == Metamath(turns=5)
