"""What an environment is: it gets text and gives text. Tokens are the sampler's business, and they only ever append.

One episode of a two-turn game, as the sampler drives it:

    episode = environment.start(task, rollout_id)
    episode.prompt                   "guess 1-9:"
    episode.respond("5")             Turn("lower:")                            goes on, the policy writes again
    episode.respond("3")             Turn(None, reward=1.0, ending=TERMINATED) over

A fault is an exception: whatever `start` or `respond` raises makes the rollout FAILED, with the reason, and no reward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from laurel.errors import EnvironmentFault
from laurel.tasks.task import Prompt, Task
from laurel.tree import Ending


@dataclass(frozen=True)
class Turn:
    """What an environment answers to one turn of the policy.

    Attributes:
        observation: the text that the policy reads next; None exactly when the episode is over.
        reward: what this turn of the policy earned; it attaches to the policy's segment.
        ending: None while the episode goes on. TERMINATED: the state is final, nothing can follow. TRUNCATED: cut off
            although more could have followed.

    Raises:
        EnvironmentFault: if an episode that goes on says nothing, one that is over says something, the reward is not
            a finite number, or the ending is FAILED (an environment that broke raises instead).
    """

    observation: str | None = None
    reward: float = 0.0
    ending: Ending | None = None

    def __post_init__(self) -> None:
        if isinstance(self.reward, bool) or not isinstance(self.reward, int | float) or not math.isfinite(self.reward):
            raise EnvironmentFault(
                f"The reward of a turn must be a finite number, got {self.reward!r}.",
                hint="raise an exception where the environment broke: a failure is not a zero.",
            )
        if self.ending is Ending.FAILED:
            raise EnvironmentFault(
                "A turn cannot end as FAILED.",
                hint="raise an exception that says what broke; the rollout becomes FAILED.",
            )
        if self.ending is None and not (isinstance(self.observation, str) and self.observation):
            raise EnvironmentFault(
                f"An episode that goes on needs an observation that is not empty, got {self.observation!r}.",
                hint="give the text that the policy reads next, or an ending.",
            )
        if self.ending is not None and self.observation is not None:
            raise EnvironmentFault(
                f"An episode that is over has the observation {self.observation!r}, which nobody would read.",
                hint="leave the observation out, or let the episode go on.",
            )


class Episode(Protocol):
    """One rollout in an environment."""

    @property
    def prompt(self) -> Prompt:
        """What the policy reads first."""
        ...

    def respond(self, text: str) -> Turn:
        """The answer to what the policy wrote in its turn (without special tokens).

        It runs in the process of the run, in a thread of its own beside those of other episodes, and has a deadline,
        `Limits.environment_timeout_seconds`. A call that misses it fails its rollout; nothing can interrupt it, so it
        goes on until it returns, and what it answers then is discarded. Give whatever can hang a time-out of its own,
        and raise when it passes. The calls of one episode never overlap, but may come from different threads.
        """
        ...


@runtime_checkable
class Environment(Protocol):
    """Starts episodes. Everything that an episode does follows from the task, the rollout's id and the policy's texts.

    This determinism is what makes a run repeatable and lets a branch in the middle replay the turns before it. The
    prompt must depend on the task alone, since all samples of a task share it.
    """

    def start(self, task: Task, rollout_id: str) -> Episode:
        """A new episode. To see what a state is worth, a rollout is played again: the same id may start many episodes,
        also at the same time.
        """
        ...


def runs_in_process(environment: Environment) -> bool:
    """Whether the environment is marked as one that cannot hang.

        class Echo(Conversation):
            runs_in_process = True

    Marked environments are called directly in the thread of the run, one after the other and without a deadline, which
    is quicker; debuggers work there, and so does what belongs to one thread, such as signals.
    """
    return bool(getattr(environment, "runs_in_process", False))
