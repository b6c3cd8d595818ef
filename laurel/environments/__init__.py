"""Environments: text in, text out, over one or several turns."""

from collections.abc import Callable

from laurel.environments.conversation import Conversation, Dialogue
from laurel.environments.environment import Environment, Episode, Turn, runs_in_process
from laurel.environments.number_guessing import NumberGuessing
from laurel.environments.proving import Metamath
from laurel.environments.reflexion import Reflexion
from laurel.environments.shaped import Shaped
from laurel.environments.single_turn import SingleTurn

ENVIRONMENTS: dict[str, Callable[..., Environment]] = {
    "metamath": Metamath,
    "number_guessing": NumberGuessing,
    "reflexion": Reflexion,
    "single_turn": SingleTurn,
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
    "Turn",
    "runs_in_process",
]
