"""The learning rate as a function of where a run stands in its plan of optimiser steps."""

from __future__ import annotations

import math
from typing import Literal, get_args

from laurel.errors import ConfigurationError, unknown_key

Schedule = Literal["constant", "linear", "cosine"]


def schedule_factor(
    schedule: Schedule, done: int, *, left_out: int = 0, warmup_steps: int, total_steps: int | None
) -> float:
    """What the learning rate is multiplied with in the optimiser step that follows `done` finished ones.

    With W = warmup_steps, N = total_steps and L = left_out:

        done < W    (done + 1) / W                              warm-up: never 0, full at the W-th step
        constant    1
        linear      1 - x            where x = (done + L - W) / (N - W), at most 1
        cosine      (1 + cos(pi x)) / 2

    Where no step is left out, the first one after the warm-up has factor 1 in all three; linear and cosine would reach
    0 in the step after the N-th, and stay there. A step that was planned and not taken (its update was stopped on the
    measured KL, or there was no gradient) is behind the run as much as one that was: the rest of the plan keeps the
    learning rates that it would have had, and the run ends where the schedule does. The warm-up is for the optimiser's
    moments, so only steps that were taken count there.

    Args:
        done: optimiser steps finished so far.
        left_out: steps of the plan that were not taken so far.
        total_steps: all optimiser steps of the run (steps x epochs x minibatches); linear and cosine need it.
    """
    if done < warmup_steps:
        return (done + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    total = check_total_steps(schedule, warmup_steps=warmup_steps, total_steps=total_steps)
    progress = min((done + left_out - warmup_steps) / (total - warmup_steps), 1.0)
    return 1 - progress if schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2


def check_schedule(schedule: str, *, warmup_steps: int) -> None:
    """Raise ConfigurationError unless the schedule is known and its warm-up possible."""
    if schedule not in get_args(Schedule):
        raise unknown_key("schedule", schedule, get_args(Schedule))
    if warmup_steps < 0:
        raise ConfigurationError(f"warmup_steps must be at least 0, got {warmup_steps}.", hint="0 means no warm-up.")


def check_total_steps(schedule: Schedule, *, warmup_steps: int, total_steps: int | None) -> int:
    """The total that linear and cosine descend over (constant needs none: 0), or ConfigurationError."""
    if schedule == "constant":
        return 0
    if total_steps is None:
        raise ConfigurationError(
            f"The {schedule} schedule needs total_steps.", hint="tell the learner how many steps the run has."
        )
    if total_steps <= warmup_steps:
        raise ConfigurationError(
            f"The run has {total_steps} optimiser steps, which warmup_steps ({warmup_steps}) uses up.",
            hint="shorten the warm-up or train for longer.",
        )
    return total_steps
