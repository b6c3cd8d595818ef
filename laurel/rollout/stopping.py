"""When a turn is over: end tokens, stop strings, budgets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum

import numpy as np

from laurel.errors import ConfigurationError
from laurel.policy import Policy
from laurel.tree import BoolArray, IntArray


class Stop(IntEnum):
    """Why a turn stopped; 0 while it goes on. Where several hold at once, the first in this order is recorded."""

    NONE = 0
    END_TOKEN = 1
    STOP_STRING = 2
    LENGTH = 3
    PATH_LENGTH = 4
    TIME = 5

    @property
    def complete(self) -> bool:
        """Whether the policy finished its turn, rather than being cut off."""
        return self in (Stop.END_TOKEN, Stop.STOP_STRING)

    @property
    def reason(self) -> str:
        """What the outcome of a rollout calls it."""
        return self.name.lower()


class EndTokens:
    """A table that says of each token whether it ends a turn."""

    def __init__(self, ids: Iterable[int], vocabulary_size: int) -> None:
        self._ends = np.zeros(vocabulary_size, np.bool_)
        self._ends[[token for token in ids if token < vocabulary_size]] = True

    def __call__(self, tokens: IntArray) -> BoolArray:
        return self._ends[tokens]


def check_stop_strings(strings: Sequence[str], policy: Policy) -> None:
    """Refuse stop strings that hold a special token: the text of a turn is decoded without those, so none can match.

    Raises:
        ConfigurationError: naming the string.
    """
    added = getattr(policy.tokenizer, "added_tokens_decoder", {}).values()
    special = {str(token) for token in added if token.special} | set(policy.tokenizer.all_special_tokens)
    for string in strings:
        held = next((token for token in sorted(special) if token and token in string), None)
        if held is not None:
            raise ConfigurationError(
                f"limits: the stop string {string!r} can never match: {held!r} is a special token of '{policy.name}', "
                "and the text of a turn is decoded without special tokens.",
                hint="leave it out and rely on policy.end_ids: each of these tokens ends a turn.",
            )


class StopStrings:
    """Finds stop strings in the decoded text of a turn.

    A string can only become complete with a token whose own text holds the string's last character, so that the
    whole turn is decoded for few tokens. Tokens whose text alone says nothing sure (nothing, part of a character, or
    white space that a decoder may add or drop) are always looked at.
    """

    def __init__(self, strings: Sequence[str], policy: Policy) -> None:
        self.strings = tuple(strings)
        self._policy = policy
        self._last = {string[-1] for string in self.strings}
        self._always = any(character.isspace() for character in self._last)
        self._suspects = np.full(policy.vocabulary_size, -1, np.int8)

    def suspects(self, tokens: IntArray) -> BoolArray:
        """Which of these newest tokens may have completed a stop string."""
        if not self.strings:
            return np.zeros(len(tokens), np.bool_)
        if self._always:
            return np.ones(len(tokens), np.bool_)
        for token in np.unique(tokens[self._suspects[tokens] < 0]).tolist():
            text = self._policy.decode([token])
            self._suspects[token] = not text or "\ufffd" in text or any(last in text for last in self._last)
        return self._suspects[tokens] > 0

    def find(self, text: str) -> int | None:
        """Where the first stop string begins in a turn's text."""
        places = [place for string in self.strings if (place := text.find(string)) >= 0]
        return min(places, default=None)
