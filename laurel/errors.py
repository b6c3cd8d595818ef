"""The tree of errors. Every message says what is wrong, where (row, key, rollout), and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LaurelError(Exception):
    """The root of all errors that Laurel raises on purpose.

    Args:
        message: what is wrong and where it is (file and line, key, rollout).
        hint: what to do next, in one sentence.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message}\n  What to do: {hint}" if hint else message)


def said_by(error: BaseException) -> str:
    """What went wrong, as "ValueError: no such row"; a hint of Laurel's own is for whoever reads the error alone."""
    message = error.message if isinstance(error, LaurelError) else str(error)
    return f"{type(error).__name__}: {message.rstrip('.')}"


class ConfigurationError(LaurelError):
    """A recipe, a setting or an argument is wrong."""


class TaskError(LaurelError):
    """A task file or row cannot be used, or two splits share a prompt."""


class RewardError(LaurelError):
    """Too many rollouts could not be graded, or a reward has the wrong form."""


class SandboxError(LaurelError):
    """A program cannot be run safely here, or the sandbox itself failed. It says nothing of the program."""


class EnvironmentFault(LaurelError):
    """An environment broke its protocol."""


class FormalError(LaurelError):
    """A formal database cannot be read, or a proof is refused."""


class ExpertFault(LaurelError):
    """An expert left too many questions without an answer."""


class PolicyError(LaurelError):
    """A model directory cannot be loaded, or its architecture would be computed wrongly."""


class SamplingError(LaurelError):
    """A rollout cannot be sampled as asked."""


class LearnerError(LaurelError):
    """An update cannot be computed, for example because a loss is not finite."""


class TreeError(LaurelError):
    """A tree of experience breaks one of its own rules."""


class RunError(LaurelError):
    """A run directory cannot be opened, written or resumed."""


class MissingExtraError(LaurelError):
    """A feature needs an optional dependency that is not installed."""

    def __init__(self, feature: str, *, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the package '{package}', which is not installed.",
            hint=f"pip install 'laurel-rl[{extra}]'",
        )


def unknown_key(kind: str, key: str, known: Iterable[str]) -> ConfigurationError:
    """The error for a key that nobody reads: names the nearest known one."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else "remove it."
    return ConfigurationError(f"{kind}: unknown key '{key}'.", hint=f"{hint} Known: {', '.join(names) or 'none'}.")
