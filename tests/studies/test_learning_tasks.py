"""The game whose best play is known: its rules, and its optimum by listing every policy."""

from __future__ import annotations

import itertools

from laurel.tasks import Task
from laurel.tree import Ending
from studies.learning_tasks import Digging, learning_tasks


def played(game: Digging, task: Task, first: str, second: str) -> tuple[float, float]:
    """What both turns earned."""
    episode = game.start(task, "1.0")
    turn = episode.respond(first)
    last = episode.respond(second)
    assert turn.observation is not None and last.ending is Ending.TERMINATED
    return turn.reward, last.reward


def shown(game: Digging, task: Task) -> tuple[str, str]:
    """Where the spade lies, and where the ore is."""
    episode = game.start(task, "1.0")
    observation = episode.respond("$").observation
    assert isinstance(episode.prompt, str) and observation is not None
    return episode.prompt[0], observation[0]


def test_the_first_turn_decides_and_the_last_one_pays() -> None:
    game = Digging()
    for task in game.tasks(20):
        spade, ore = shown(game, task)
        elsewhere = {"a": "b", "b": "a"}
        assert played(game, task, spade, ore) == (0, 1)
        assert played(game, task, elsewhere[spade], ore) == (0, game.by_hand)
        assert played(game, task, "$", ore) == (game.coin, game.by_hand)
        assert played(game, task, spade, elsewhere[ore]) == (0, 0)
        assert played(game, task, "", "") == (0, 0)
        assert played(game, task, f"{spade}{spade}", ore) == (0, game.by_hand)


def test_the_best_policy_of_all_earns_the_optimum_and_the_myopic_one_does_not() -> None:
    """A policy writes one of three things first for each prompt, and then one of two for each prompt and ore."""
    game = Digging()
    task = {shown(game, task): task for task in game.tasks(64)}
    worlds = list(itertools.product("ab", "ab"))
    assert sorted(task) == worlds
    returns, greedy = [], []
    for firsts in itertools.product("ab$", repeat=2):
        for seconds in itertools.product("ab", repeat=4):
            earned = [
                played(game, task[world], firsts["ab".index(world[0])], second)
                for world, second in zip(worlds, seconds, strict=True)
            ]
            returns.append(sum(map(sum, earned)) / 4)
            greedy.append((sum(turn for turn, _ in earned), returns[-1]))
    assert max(returns) == learning_tasks()["digging"].optimum == 1
    assert max(greedy)[1] == game.coin + game.by_hand < 0.5


def test_rooms_are_drawn_evenly_and_held_out_games_are_others() -> None:
    digging = learning_tasks()["digging"]
    assert not {task.id for task in digging.training} & {task.id for task in digging.held_out}
    spades = [task.prompt for task in digging.training]
    assert 200 < spades.count("a:") < 312  # of 512; five standard deviations
    letters = learning_tasks()["letters"]
    assert not {task.prompt for task in letters.training} & {task.prompt for task in letters.held_out}
    assert len(letters.training) + len(letters.held_out) == 4**3
    assert all(task.reference == str(task.prompt)[2] for task in (*letters.training, *letters.held_out))
