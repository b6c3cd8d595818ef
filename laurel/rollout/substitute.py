"""Somebody who takes turns in the policy's place while rollouts are sampled: an expert who shows how it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from laurel.tree import IntArray


@dataclass(frozen=True)
class Due:
    """A turn that the policy is about to draw.

    Attributes:
        rollout: whose.
        turn: its number, from 0.
        path: [L] all tokens before it.
        dialogue: the same as text: the prompt, the first turn, its answer, ..., the last answer. Its length is odd.
    """

    rollout: str
    turn: int
    path: IntArray
    dialogue: tuple[str, ...]


@dataclass(frozen=True)
class Taken:
    """A turn that was written elsewhere: its tokens as the policy reads them (at least one), and what they say."""

    tokens: IntArray
    text: str


class Substitute(Protocol):
    """Decides which turns it takes, and writes them.

    A turn that is taken is put on the rollout's path as a segment with `Source.EXPERT`, without log-probabilities; the
    environment hears it, and the policy goes on behind it. No method takes such tokens for draws of the policy.
    """

    def take(self, turns: Sequence[Due]) -> list[Taken | None]:
        """For each of these turns what is played, or None: the policy draws it.

        What is played must leave the path within `LocalSampler.path_limit`. Which turns stand together in one call
        depends on `max_live_rows`; no answer should.
        """
        ...
