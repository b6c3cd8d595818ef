"""Environments: text in, text out, over one or several turns."""

from collections.abc import Callable

from laurel.environments.conversation import Conversation, Dialogue
from laurel.environments.environment import Environment, Episode, Turn, runs_in_process
from laurel.environments.number_guessing import NumberGuessing
from laurel.environments.proving import Metamath
from laurel.environments.reflexion import Reflexion
from laurel.environments.shaped import Shaped
from laurel.environments.single_turn import SingleTurn
from laurel.environments.sub_goals import SubGoal, SubGoals

ENVIRONMENTS: dict[str, Callable[..., Environment]] = {
    "metamath": Metamath,
    "number_guessing": NumberGuessing,
    "reflexion": Reflexion,
    "shaped": Shaped,
    "single_turn": SingleTurn,
    "sub_goals": SubGoals,
}
"""The environments that a recipe names."""

__all__ = [
    "ENVIRONMENTS",
    "Conversation",
    "Dialogue",
    "Environment",
    "Episode",
    "Metamath",
    "NumberGuessing",
    "Reflexion",
    "Shaped",
    "SingleTurn",
    "SubGoal",
    "SubGoals",
    "Turn",
    "runs_in_process",
]
