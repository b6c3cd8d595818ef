"""One question, one answer."""

from laurel.environments import SingleTurn, Turn
from laurel.tasks.task import Task
from laurel.tree import Ending


def test_any_answer_terminates_without_a_reward():
    conversation = ({"role": "user", "content": "2+2?"},)
    episode = SingleTurn().start(Task("a", conversation), "t.0")
    assert episode.prompt == conversation
    assert episode.respond("") == Turn(None, 0.0, Ending.TERMINATED)
