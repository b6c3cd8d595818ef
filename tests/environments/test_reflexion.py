"""Attempts by hand; and a memory that helps exactly as far as feedback tells something and memory holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from laurel.environments import Reflexion, Turn
from laurel.errors import ConfigurationError, EnvironmentFault
from laurel.rewards import Failed, exact_match, in_process
from laurel.tasks import Task
from laurel.tree import Ending

TASK = Task("t", "2 + 2 =", "4")


def play(environment: Reflexion, task: Task, answers: list[str]) -> list[Turn]:
    episode = environment.start(task, "r")
    assert episode.prompt == task.prompt
    return [episode.respond(text) for text in answers]


def test_an_episode_by_hand() -> None:
    turns = play(Reflexion(exact_match()), TASK, ["5", "too many", "4"])
    assert turns == [
        Turn("Wrong. What went wrong?"),
        Turn("Try again."),
        Turn(reward=1.0, ending=Ending.TERMINATED),
    ]
    assert play(Reflexion(exact_match()), TASK, ["4"]) == [Turn(reward=1.0, ending=Ending.TERMINATED)]


def test_out_of_attempts_is_terminated() -> None:
    turns = play(Reflexion(exact_match(), attempts=2), TASK, ["5", "hm", "6"])
    assert (
        turns[-1] == Turn(reward=0.0, ending=Ending.TERMINATED)
        and len(turns) == 3 == Reflexion(exact_match(), attempts=2).turns
    )


def test_without_reflection_the_next_attempt_follows_at_once() -> None:
    environment = Reflexion(exact_match(), attempts=3, reflect=False, again="Attempt {attempt}: {prompt}")
    turns = play(environment, TASK, ["5", "6", "4"])
    assert [turn.observation for turn in turns] == ["Wrong. Attempt 2: 2 + 2 =", "Wrong. Attempt 3: 2 + 2 =", None]
    assert environment.turns == 3 and turns[-1].reward == 1.0
    told = Reflexion(
        exact_match(), reflect=False, again="{feedback} ({memory}) again", feedback=lambda task, text: f"not {text}"
    )
    assert play(told, TASK, ["5"])[0].observation == "not 5 () again"


def test_the_memory_is_bounded() -> None:
    environment = Reflexion(exact_match(), attempts=5, again="{memory}|", memory=2)
    turns = play(environment, TASK, ["0", "a", "1", "b", "2", "c", "3", "d", "9"])
    assert [turn.observation for turn in turns[1::2]] == ["a|", "a\nb|", "b\nc|", "c\nd|"]
    none = Reflexion(exact_match(), again="{memory}|", memory=0)
    assert play(none, TASK, ["0", "a"])[1].observation == "|"


def test_an_episode_is_worth_its_best_attempt() -> None:
    """Scores 0.25, 0.5, 0.25, 1: gains 0.25, 0.25, 0, 0.5, and nothing for reflections."""
    graded = in_process(lambda task, text: {"a": 0.25, "b": 0.5, "c": 0.25, "d": 1.0}[text])
    turns = play(Reflexion(graded, attempts=4), TASK, ["a", "-", "b", "-", "c", "-", "d"])
    assert [turn.reward for turn in turns] == [0.25, 0, 0.25, 0, 0.0, 0, 0.5]
    soon = play(Reflexion(graded, attempts=4, full_marks=0.5), TASK, ["a", "-", "b"])
    assert sum(turn.reward for turn in soon) == 0.5 and soon[-1].ending is Ending.TERMINATED
    worse = in_process(lambda task, text: -1.0)
    assert sum(turn.reward for turn in play(Reflexion(worse, attempts=2), TASK, ["a", "-", "b"])) == -1.0


def test_a_reward_that_fails_is_no_wrong_answer() -> None:
    with pytest.raises(EnvironmentFault, match="reward failed on an attempt at task u: task u has no reference"):
        play(Reflexion(exact_match()), Task("u", "?"), ["5"])
    broken = in_process(lambda task, text: Failed("offline"))
    with pytest.raises(EnvironmentFault, match="offline"):
        play(Reflexion(broken), TASK, ["5"])


def higher_or_lower(task: Task, text: str) -> str:
    return "higher" if int(text) < int(task.reference or "") else "lower"


def bisecting(observed: Callable[[list[str]], list[str]]) -> Callable[[Reflexion, Task], float]:
    """A script that halves what is left of 1 to 15 by the bounds that it reads, and writes the last one down.

    Args:
        observed: of everything that was said in the episode, what it looks at.
    """

    def played(environment: Reflexion, task: Task) -> float:
        episode, said, earned = environment.start(task, "r"), [""], 0.0
        while True:
            low, high = 1, 15
            for line in "\n".join(observed(said)).split("\n"):
                word, _, number = line.partition(" than ")
                low = max(low, int(number) + 1) if word == "higher" else low
                high = min(high, int(number) - 1) if word == "lower" else high
            guess = (low + high) // 2
            turn = episode.respond(str(guess))
            earned += turn.reward
            if turn.observation is None:
                return earned
            said += [
                turn.observation,
                (episode.respond(f"{turn.observation.split()[0]} than {guess}")).observation or "",
            ]

    return played


NUMBERS = [Task(f"{hidden}", "1 to 15", f"{hidden}") for hidden in range(1, 16)]


def solved(feedback: Any, memory: int) -> float:
    """The share of hidden numbers that a script finds in four attempts which reads the last thing said, and no more."""
    environment = Reflexion(exact_match(), attempts=4, feedback=feedback, memory=memory, again="{memory}\n")
    script = bisecting(lambda said: said[-1:])
    return sum(script(environment, task) for task in NUMBERS) / len(NUMBERS)


def test_reflection_helps_where_feedback_tells_something_and_is_remembered() -> None:
    """Four guesses find any of 15 numbers by halving, if three bounds are remembered; without memory one is found."""
    assert solved(higher_or_lower, memory=3) == 1.0
    assert solved(higher_or_lower, memory=0) == pytest.approx(1 / 15)
    assert solved(None, memory=3) == pytest.approx(1 / 15), "what says nothing of the answer helps nobody"
    between = [solved(higher_or_lower, memory=memory) for memory in (1, 2)]
    assert 1 / 15 < between[0] < between[1] < 1.0, between


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"attempts": 0}, "attempts must be a whole number from 1"),
        ({"memory": -1}, "memory must be a whole number from 0"),
        ({"again": "{answer}"}, "knows no {answer}"),
        ({"again": ""}, "must say something"),
        ({"ask": ""}, "must say something"),
        ({"reward": lambda task, rollout: 1.0}, "cannot judge an attempt in the middle"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Reflexion(**{"reward": exact_match(), **settings})


def test_it_cannot_hang_where_its_parts_cannot() -> None:
    assert Reflexion(exact_match()).runs_in_process
    assert not Reflexion(exact_match(), feedback=higher_or_lower).runs_in_process
    assert not Reflexion(lambda task, text: 1.0).runs_in_process
