"""Several attempts at one task; in between, what the verifier says of the last and what the policy makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from laurel.environments.conversation import Conversation, Dialogue
from laurel.environments.environment import Turn
from laurel.errors import ConfigurationError, EnvironmentFault
from laurel.rewards import Failed, Reward
from laurel.rewards.reward import Subject, evaluate, name_of, needs_rollout, run_here, runs_in_process, waits
from laurel.tasks.task import Task
from laurel.tasks.template import Template

FIELDS = ("attempt", "feedback", "memory", "prompt")


@dataclass(frozen=True)
class Reflexion(Conversation):
    """The policy answers; where that is not accepted it is told so, says what went wrong, and tries again.

        prompt        2 + 2 =
        policy        5                                  attempt 1
        environment   Wrong. What went wrong?            `feedback`, then `ask`
        policy        I counted one too many.            the reflection
        environment   Try again.                         `again`
        policy        4                                  attempt 2, accepted: terminated

    An attempt earns by how much it is better than the best one before, so that an episode is worth its best attempt.
    The score of the first one is what it would have earned alone; no reflection earns anything. Out of attempts is
    terminated. Reflections are turns of the policy like any other: a method that credits turns (turn_ppo) says what
    they were worth.

    Tokens only ever append, so the whole dialogue stays readable as far as the policy's context reaches. What `memory`
    bounds is how many reflections are said again in `again`, for a policy that does not look back as far.

    Attributes:
        reward: what judges an attempt: a function of (task, text), or in a recipe the name of one.
        attempts: most of them. `turns` is what `limits.max_turns` has to be for that.
        full_marks: the score from which on an attempt is accepted, and the episode over.
        reflect: whether the policy is asked what went wrong; without, `feedback` and `again` stand in one turn.
        feedback: a function of (task, text) that says what was wrong with an attempt; None: `wrong` is said.
        wrong, ask: what is said of an attempt that was not accepted, and asked about it.
        again: what stands before the next attempt: a template over {attempt} (its number), {feedback}, {memory} and
            {prompt}.
        memory: how many of the last reflections {memory} holds, one a line.

    Source: Shinn et al. 2023, arXiv 2303.11366, algorithm 1, where each attempt is a fresh context that holds the
    memory alone; here it is one dialogue.

    Raises:
        ConfigurationError: a setting makes no sense, or the reward reads more than a text.
        EnvironmentFault: in an episode, where the reward failed: that is no wrong answer.
    """

    reward: Reward
    attempts: int = 3
    full_marks: float = 1.0
    reflect: bool = True
    feedback: Callable[[Task, str], str] | None = None
    wrong: str = "Wrong."
    ask: str = "What went wrong?"
    again: str = "Try again."
    memory: int = 3

    def __post_init__(self) -> None:
        for name, least in (("attempts", 1), ("memory", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigurationError(
                    f"{name} must be a whole number from {least}, got {value!r}.", hint="raise it."
                )
        unknown = sorted(set(Template(self.again).fields) - set(FIELDS))
        if unknown or not self.again or not (self.ask or not self.reflect):
            what = f"knows no {{{unknown[0]}}}" if unknown else "and 'ask' must say something"
            raise ConfigurationError(f"'again' {what}.", hint=f"fields: {', '.join(FIELDS)}.")
        if needs_rollout(self.reward) or waits(self.reward):
            raise ConfigurationError(
                f"The reward {name_of(self.reward)} cannot judge an attempt in the middle of a dialogue.",
                hint="give a plain function of (task, text), such as exact_match.",
            )

    @property
    def runs_in_process(self) -> bool:
        """Whether the reward and the feedback are marked as ones that cannot hang."""
        return runs_in_process(self.reward) and (self.feedback is None or runs_in_process(self.feedback))

    @property
    def turns(self) -> int:
        """Turns of the policy in the longest episode."""
        return 2 * self.attempts - 1 if self.reflect else self.attempts

    def converse(self, task: Task, rollout_id: str) -> Dialogue:
        """One episode."""
        best = 0.0
        reflections: list[str] = []
        answer = yield task.prompt
        for attempt in range(1, self.attempts + 1):
            score = self._score(task, answer)
            gain = score - best if attempt == 1 else max(score - best, 0.0)
            best += gain
            if score >= self.full_marks or attempt == self.attempts:
                return gain
            said = self.wrong if self.feedback is None else self.feedback(task, answer)
            if self.reflect:
                reflections.append((yield Turn(f"{said} {self.ask}".strip(), gain)))
                answer = yield self._again(task, attempt + 1, said, reflections)
            else:
                told = self._again(task, attempt + 1, said, reflections)
                answer = yield Turn(
                    told if "feedback" in Template(self.again).fields else f"{said} {told}".strip(), gain
                )
        raise AssertionError("unreachable: the last attempt returns")

    def _again(self, task: Task, attempt: int, said: str, reflections: list[str]) -> str:
        kept = reflections[len(reflections) - self.memory :] if self.memory < len(reflections) else reflections
        asked = task.prompt if isinstance(task.prompt, str) else task.prompt[-1]["content"]
        row = {"attempt": attempt, "feedback": said, "memory": "\n".join(kept), "prompt": asked}
        return Template(self.again).fill(row, f"task {task.id}")

    def _score(self, task: Task, text: str) -> float:
        result = run_here(evaluate(self.reward, task, Subject(text)))
        if isinstance(result, Failed):
            raise EnvironmentFault(
                f"The reward failed on an attempt at task {task.id}: {result.reason}.", hint="mend the reward."
            )
        return result.value
