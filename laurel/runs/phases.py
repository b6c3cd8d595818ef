"""Named moments of a run at which tests, and users who doubt, can have the process killed.

    LAUREL_KILL_AT="in_record:3" laurel train recipe.yaml     # dies by SIGKILL inside the transaction of step 3

A killed run that is resumed has to equal one that was never killed, so every moment at which the state on disk is
different has a name here.
"""

from __future__ import annotations

import os
import signal

from laurel.errors import ConfigurationError, unknown_key

KILL_VARIABLE = "LAUREL_KILL_AT"

PHASES = (
    "after_sampling",
    "after_grading",
    "before_update",
    "after_update",
    "before_record",
    "in_record",
    "after_record",
    "after_evaluation",
    "in_checkpoint_write",
    "before_rename",
    "after_rename",
    "after_checkpoint",
    "in_rewind",
    "before_finish",
)


def phase(name: str, step: int) -> None:
    """Pass the moment `name` of `step`; does not return if the environment asks for death at it.

    Raises:
        ConfigurationError: if the environment variable names no known moment.
    """
    wanted = os.environ.get(KILL_VARIABLE)
    if not wanted:
        return
    if name not in PHASES:
        raise unknown_key("phase", name, PHASES)
    where, _, number = wanted.partition(":")
    if where not in PHASES:
        raise unknown_key(KILL_VARIABLE, where, PHASES)
    if not number.lstrip("-").isdigit():
        raise ConfigurationError(f"{KILL_VARIABLE}={wanted!r} names no step.", hint=f"write {where}:3, for example.")
    if (where, int(number)) == (name, step):
        os.kill(os.getpid(), signal.SIGKILL)
