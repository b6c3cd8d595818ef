"""What bounds a rollout, and what is asked of the sampler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from laurel.errors import ConfigurationError
from laurel.tasks.task import Task

if TYPE_CHECKING:
    from laurel.environments import Environment

LONGEST_WAIT_SECONDS = 7 * 24 * 3600.0  # what every platform's clock can wait for, and nobody outwaits


@dataclass(frozen=True)
class Limits:
    """The budgets of one rollout. Whatever they cut is recorded as truncated, never as terminated.

    Attributes:
        max_new_tokens: tokens that the policy may draw in one turn.
        max_turns: policy turns in one rollout; more than one needs an environment.
        max_path_tokens: length of the whole path, the prompt included; None: the model's context length, which bounds
            it in any case.
        timeout_seconds: wall time of one `collect` or `branch`; None: none.
        environment_timeout_seconds: wall time of one call of an environment, be it the start of an episode or the
            answer to one turn. A call that takes longer fails its rollout, and is abandoned (a thread cannot be
            killed): see `laurel.rollout.Answering`. Environments with `runs_in_process = True` have no deadline.
        stop_strings: a turn ends as soon as its text contains one of them. The tokens are kept as drawn; the
            segment's text is cut before the string.
    """

    max_new_tokens: int = 256
    max_turns: int = 1
    max_path_tokens: int | None = None
    timeout_seconds: float | None = None
    environment_timeout_seconds: float = 60.0
    stop_strings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "max_turns", "max_path_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"limits: {name} must be at least 1, got {value}.", hint="raise it.")
        if self.timeout_seconds is not None and not self.timeout_seconds > 0:
            raise ConfigurationError(
                f"limits: timeout_seconds must be above 0, got {self.timeout_seconds}.",
                hint="leave it out for no time limit.",
            )
        if not 0 < self.environment_timeout_seconds <= LONGEST_WAIT_SECONDS:
            raise ConfigurationError(
                f"limits: environment_timeout_seconds must be above 0 and at most {LONGEST_WAIT_SECONDS:g}, got "
                f"{self.environment_timeout_seconds}.",
                hint="60 is the default; mark environments that cannot hang with runs_in_process = True.",
            )
        if isinstance(self.stop_strings, str) or not all(self.stop_strings):
            raise ConfigurationError(
                f"limits: stop_strings must be a tuple of non-empty strings, got {self.stop_strings!r}.",
                hint='write stop_strings=("\\n",).',
            )


@dataclass(frozen=True)
class Job:
    """One tree to collect: `samples` rollouts of one task.

    Attributes:
        tree_id: names the tree; rollout i is called `f"{tree_id}.{i}"`, which fixes its draws.
        task: what to do.
        samples: number of rollouts.
        environment: what answers the policy's turns; None: one turn, judged later.
    """

    tree_id: str
    task: Task
    samples: int
    environment: Environment | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigurationError(
                f"Job {self.tree_id}: samples must be at least 1, got {self.samples}.", hint="8 is usual."
            )
