"""A teacher who judges by any reward function, with the faults of a scripted teacher: a person's stand-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from laurel.errors import ConfigurationError, RewardError
from laurel.preferences.teachers import Query, ScriptedTeacher
from laurel.rewards.reward import Reward, Subject, evaluate, name_of, needs_rollout, needs_worker, run_here, waits
from laurel.tree import STEP_PART, Score, Source


@dataclass
class RewardTeacher:
    """Asks a reward function about both answers, and says what `judge` says of the two numbers.

    A score that has parts of steps (`laurel.rewards.step_scores`) is their rewards, and the score itself that of one
    more at the end; other scores are one step.

    Attributes:
        reward: of (task, text) or (task, rollout); it is called in this process, without a deadline.
        judge: with which faults.

    Raises:
        ConfigurationError: the reward cannot run in this process.
        RewardError (when called): the reward failed on an answer; a teacher's failure is no verdict.
    """

    reward: Reward
    judge: ScriptedTeacher = field(default_factory=ScriptedTeacher)

    def __post_init__(self) -> None:
        if needs_worker(self.reward) or waits(self.reward):
            raise ConfigurationError(
                f"The reward {name_of(self.reward)} cannot run in this process, and a teacher is asked in it.",
                hint="give one that is neither asynchronous nor able to hang.",
            )

    def state(self) -> dict[str, int]:
        """What later answers depend on, as JSON."""
        return self.judge.state()

    def load_state(self, state: Mapping[str, int]) -> None:
        """Go on from `state()`."""
        self.judge.load_state(state)

    def __call__(self, query: Query) -> float | None:
        first, second = (self._rewards(query, side) for side in (0, 1))
        return self.judge(replace(query, rewards=(first, second)))

    def _rewards(self, query: Query, side: int) -> Sequence[float]:
        rollout = None if query.rollouts is None else query.rollouts[side]
        if rollout is None and needs_rollout(self.reward):
            raise RewardError(
                f"The reward {name_of(self.reward)} reads rollouts, and task {query.task.id} comes with texts alone.",
                hint="judge by a reward of (task, text).",
            )
        result = run_here(evaluate(self.reward, query.task, Subject(query.answers[side], rollout)))
        if not isinstance(result, Score):
            raise RewardError(
                f"The teacher's reward {name_of(self.reward)} failed on task {query.task.id}: {result.reason}.",
                hint="mend the reward; a run goes on with --resume, in Python resume=True.",
            )
        paid = 0.0 if rollout is None else sum(s.reward for s in rollout.segments if s.source is not Source.PROMPT)
        steps = [result.parts[name] for name in sorted(result.parts, key=_number) if name.startswith(STEP_PART)]
        return [*steps, result.value + paid] if steps else [result.value + paid]


def _number(name: str) -> int:
    digits = name.removeprefix(STEP_PART)
    return int(digits) if digits.isdigit() else 0
