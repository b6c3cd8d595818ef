"""The game whose best play is known: its rules, and its optimum by listing every policy."""

from __future__ import annotations

import itertools

import laurel
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
        elsewhere = {"a": "b", "b": "a", "x": "y", "y": "x"}
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
    worlds = list(itertools.product("ab", "xy"))
    assert sorted(task) == worlds
    returns, greedy = [], []
    for firsts in itertools.product("ab$", repeat=2):
        for seconds in itertools.product("xy", repeat=4):
            earned = [
                played(game, task[world], firsts["ab".index(world[0])], second)
                for world, second in zip(worlds, seconds, strict=True)
            ]
            returns.append(sum(map(sum, earned)) / 4)
            greedy.append((sum(turn for turn, _ in earned), returns[-1]))
    assert max(returns) == learning_tasks()["digging"].optimum == 1
    assert max(greedy)[1] == game.coin + game.by_hand < 0.5


def test_what_is_known_before_is_a_player_who_is_right_every_other_time_in_his_first_turn() -> None:
    game = Digging()
    moves = list(game.known())
    firsts = {room: sorted(str(t.reference) for t in moves if t.prompt == f"{room}:") for room in "ab"}
    assert firsts == {"a": ["$", "a", "a", "b"], "b": ["$", "a", "b", "b"]}
    seconds = [task for task in moves if len(str(task.prompt)) > 2]
    assert len(moves) == 8 + len(seconds) == 8 + 8 * 2 * 3
    assert sum(task.reference == str(task.prompt)[-2] for task in seconds) * 3 == 2 * len(seconds)
    policy = laurel.policy.tiny(alphabet=learning_tasks()["digging"].alphabet)
    (end,) = policy.end_ids  # a turn that is known reads as one that was played
    shown = next(task for task in seconds if str(task.prompt).startswith("a:$"))
    played = [*policy.encode_prompt("a:"), *policy.encode_prompt("$"), end, *policy.bridge("x:", ended_turn=True)]
    assert list(policy.encode_prompt(str(shown.prompt))) == played


def test_rooms_are_drawn_evenly_and_held_out_games_are_others() -> None:
    digging = learning_tasks()["digging"]
    assert not {task.id for task in digging.training} & {task.id for task in digging.held_out}
    spades = [task.prompt for task in digging.training]
    assert 200 < spades.count("a:") < 312  # of 512; five standard deviations
    letters = learning_tasks()["letters"]
    assert not {task.prompt for task in letters.training} & {task.prompt for task in letters.held_out}
    assert len(letters.training) + len(letters.held_out) == 4**3
    assert all(task.reference == str(task.prompt)[2] for task in (*letters.training, *letters.held_out))
