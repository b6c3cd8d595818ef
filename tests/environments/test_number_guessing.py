"""The game's rules, its determinism, and its known optimum."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.environments import NumberGuessing, Turn
from laurel.environments.number_guessing import optimal_hits
from laurel.errors import ConfigurationError
from laurel.tasks.task import Task
from laurel.tree import Ending

LOST, WON = Turn(None, 0.0, Ending.TERMINATED), Turn(None, 1.0, Ending.TERMINATED)


def task_hiding(game, number):
    return next(task for task in game.tasks(1000) if game.hidden(task) == number)


def play(game, task, choose):
    """The return of a player that picks `choose(low, high)` within what is still possible."""
    episode = game.start(task, "t.0")
    low, high, total = game.low, game.high, 0.0
    while True:
        guess = choose(low, high)
        turn = episode.respond(str(guess))
        total += turn.reward
        if turn.ending is not None:
            return total
        low, high = (guess + 1, high) if turn.observation == game.higher else (low, guess - 1)


def test_one_game_turn_by_turn():
    game = NumberGuessing()
    episode = game.start(task_hiding(game, 3), "t.0")
    assert episode.prompt == "guess 1-9:"
    assert episode.respond("5") == Turn("lower:")
    assert episode.respond("2\n") == Turn("higher:")
    assert episode.respond(" 3 ") == WON


def test_the_last_turn_loses_without_an_observation():
    game = NumberGuessing(turns=2)
    episode = game.start(task_hiding(game, 3), "t.0")
    episode.respond("5")
    assert episode.respond("4") == LOST


@pytest.mark.parametrize("text", ["", "five", "5.", "5 5", "-3", "+3", "0", "10", "³", "٣", "3" * 5000])
def test_a_malformed_guess_loses_at_once(text):
    game = NumberGuessing()
    assert game.start(task_hiding(game, 3), "t.0").respond(text) == LOST


def test_the_hidden_number_follows_from_seed_and_task_alone():
    game = NumberGuessing(seed=5)
    numbers = [game.hidden(task) for task in game.tasks(50)]
    assert numbers == [NumberGuessing(seed=5).hidden(task) for task in game.tasks(50)]
    assert numbers != [NumberGuessing(seed=6).hidden(task) for task in game.tasks(50)]
    for rollout in ("x.0", "y.1"):
        assert game.start(Task("game-0", "ignored"), rollout).respond(str(numbers[0])) == WON


def test_the_hidden_number_is_uniform():
    game = NumberGuessing(high=4)
    counts = Counter(game.hidden(task) for task in game.tasks(4000))
    assert sorted(counts) == [1, 2, 3, 4]
    assert all(abs(count - 1000) < 130 for count in counts.values())  # 130 is 4.7 standard deviations


@given(st.integers(0, 40), st.integers(0, 6))
def test_the_optimum_has_a_closed_form(numbers, turns):
    expected = Fraction(min(numbers, 2**turns - 1), numbers) if numbers else Fraction(0)
    assert abs(optimal_hits(numbers, turns) - expected) < 1e-12


def test_halving_reaches_the_optimum_and_counting_up_does_not():
    game = NumberGuessing()
    tasks = [task_hiding(game, number) for number in range(1, 10)]
    halving = sum(play(game, task, lambda low, high: (low + high) // 2) for task in tasks) / 9
    counting = sum(play(game, task, lambda low, high: low) for task in tasks) / 9
    assert halving == pytest.approx(game.optimal_return()) == pytest.approx(7 / 9)
    assert counting == pytest.approx(3 / 9)


@pytest.mark.parametrize("arguments", [{"low": 5, "high": 4}, {"turns": 0}, {"low": -1}])
def test_an_impossible_game_is_refused(arguments):
    with pytest.raises(ConfigurationError, match="What to do"):
        NumberGuessing(**arguments)
