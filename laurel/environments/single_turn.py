"""The environment of ordinary tasks: one prompt, one answer, and the grader decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from laurel.environments.environment import Turn
from laurel.tasks.task import Prompt, Task
from laurel.tree import Ending


@dataclass(frozen=True)
class SingleTurn:
    """The task's prompt, then whatever the policy answers ends the episode without reward of its own."""

    runs_in_process: ClassVar[bool] = True

    def start(self, task: Task, rollout_id: str) -> SingleTurnEpisode:
        """An episode that asks the task's prompt."""
        return SingleTurnEpisode(task.prompt)


@dataclass(frozen=True)
class SingleTurnEpisode:
    """One question, one answer."""

    prompt: Prompt

    def respond(self, text: str) -> Turn:
        """Over, whatever the text."""
        return Turn(ending=Ending.TERMINATED)
