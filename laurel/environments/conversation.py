"""A base for environments of several turns: the whole episode is written as one generator, its state as local names.

class Echo(Conversation):
    def converse(self, task, rollout_id):
        text = yield task.prompt                 # the prompt goes out, the policy's turn comes in
        while text != "stop":
            text = yield f"you said {text}:"     # an observation
        return 1.0                               # the reward of the last turn; the episode has terminated
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator

from laurel.environments.environment import Turn
from laurel.errors import EnvironmentFault
from laurel.tasks.task import Prompt, Task
from laurel.tree import Ending

Dialogue = Generator[Prompt | Turn, str, float | Turn]


class Conversation(ABC):
    """An environment that is written as one generator function, `converse`."""

    @abstractmethod
    def converse(self, task: Task, rollout_id: str) -> Dialogue:
        """The episode.

        Yields:
            first the prompt; then, for each turn, the observation, or a `Turn` where that turn earned a reward.

        Returns:
            the reward of the last turn, which terminates the episode; or a `Turn` with another ending.
        """
        ...

    def start(self, task: Task, rollout_id: str) -> ConversationEpisode:
        """Run `converse` up to its prompt."""
        return ConversationEpisode(self.converse(task, rollout_id), f"{type(self).__name__}, rollout {rollout_id}")


class ConversationEpisode:
    """Drives one generator and holds it to the protocol.

    Raises:
        EnvironmentFault: where the generator yields or returns what `converse` does not allow, or is asked after its
            end. Exceptions of the generator itself pass through unchanged.
    """

    def __init__(self, dialogue: Dialogue, name: str) -> None:
        self._dialogue = dialogue
        self._name = name
        self._over = False
        try:
            prompt = next(dialogue)
        except StopIteration:
            raise EnvironmentFault(f"{name}: ended before its prompt.", hint="yield the prompt first.") from None
        if isinstance(prompt, Turn) or not prompt:
            raise EnvironmentFault(
                f"{name}: the first yield must be the prompt, got {prompt!r}.", hint="yield text or messages first."
            )
        self.prompt: Prompt = prompt

    def respond(self, text: str) -> Turn:
        """Send the policy's turn in, and take the answer out."""
        if self._over:
            raise EnvironmentFault(f"{self._name}: asked after its end.", hint="stop at a turn that has an ending.")
        try:
            answer = self._dialogue.send(text)
        except StopIteration as stop:
            self._over = True
            return self._last(stop.value)
        turn = answer if isinstance(answer, Turn) else Turn(observation=self._observation(answer))
        if turn.ending is not None:
            raise EnvironmentFault(f"{self._name}: yielded a turn with an ending.", hint="return it instead.")
        return turn

    def _observation(self, answer: object) -> str:
        if isinstance(answer, str):
            return answer
        raise EnvironmentFault(f"{self._name}: yielded {answer!r}.", hint="yield the observation as text, or a Turn.")

    def _last(self, value: object) -> Turn:
        if isinstance(value, Turn) and value.ending is not None:
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return Turn(reward=float(value), ending=Ending.TERMINATED)
        raise EnvironmentFault(
            f"{self._name}: returned {value!r}.", hint="return the last turn's reward, or a Turn with an ending."
        )
