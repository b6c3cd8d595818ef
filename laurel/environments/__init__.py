"""Environments: text in, text out, over one or several turns."""

from laurel.environments.conversation import Conversation, Dialogue
from laurel.environments.environment import Environment, Episode, Turn
from laurel.environments.number_guessing import NumberGuessing
from laurel.environments.single_turn import SingleTurn

__all__ = ["Conversation", "Dialogue", "Environment", "Episode", "NumberGuessing", "SingleTurn", "Turn"]
