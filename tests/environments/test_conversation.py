"""A generator becomes an episode, and a generator that breaks the protocol is named."""

import pytest

from laurel.environments import Conversation, Turn
from laurel.errors import EnvironmentFault
from laurel.tasks.task import Task
from laurel.tree import Ending

TASK = Task("a", "say stop:")


class Echo(Conversation):
    """Repeats what it hears until it hears 'stop'; every 'bonus' earns half a point at once."""

    def converse(self, task, rollout_id):
        text = yield task.prompt
        while text != "stop":
            text = yield Turn("bonus!", reward=0.5) if text == "bonus" else f"you said {text}:"
        return 1.0


class Scripted(Conversation):
    """Yields what it was given, then returns what it was given."""

    def __init__(self, yields, returns):
        self.yields, self.returns = yields, returns

    def converse(self, task, rollout_id):
        for item in self.yields:
            _ = yield item
        return self.returns


def test_a_whole_dialogue():
    episode = Echo().start(TASK, "t.0")
    assert episode.prompt == "say stop:"
    assert episode.respond("hello") == Turn("you said hello:")
    assert episode.respond("bonus") == Turn("bonus!", reward=0.5)
    assert episode.respond("stop") == Turn(None, 1.0, Ending.TERMINATED)


def test_two_episodes_share_nothing():
    first, second = Echo().start(TASK, "t.0"), Echo().start(TASK, "t.1")
    first.respond("stop")
    assert second.respond("x").ending is None


def test_an_episode_may_end_truncated():
    episode = Scripted(["p"], Turn(ending=Ending.TRUNCATED)).start(TASK, "t.0")
    assert episode.respond("x").ending is Ending.TRUNCATED


@pytest.mark.parametrize("yields", [[], [""], [Turn("o")]])
def test_the_first_yield_must_be_the_prompt(yields):
    with pytest.raises(EnvironmentFault, match=r"Scripted, rollout t\.0"):
        Scripted(yields, 0.0).start(TASK, "t.0")


@pytest.mark.parametrize(
    ("yields", "returns"),
    [
        (["p", 3], 0.0),
        (["p", ""], 0.0),
        (["p", Turn(ending=Ending.TERMINATED)], 0.0),
        (["p"], None),
        (["p"], "1"),
        (["p"], float("inf")),
        (["p"], True),
        (["p"], Turn("goes on")),
    ],
)
def test_a_broken_turn_is_a_fault(yields, returns):
    episode = Scripted(yields, returns).start(TASK, "t.0")
    with pytest.raises(EnvironmentFault, match="What to do"):
        episode.respond("x")


def test_nothing_follows_the_end():
    episode = Echo().start(TASK, "t.0")
    episode.respond("stop")
    with pytest.raises(EnvironmentFault, match="after its end"):
        episode.respond("again")


def test_an_exception_of_the_environment_passes_through():
    class Broken(Conversation):
        def converse(self, task, rollout_id):
            yield "p"
            raise OSError("sandbox is gone")

    with pytest.raises(OSError, match="sandbox is gone"):
        Broken().start(TASK, "t.0").respond("x")
