"""The live rows of a batch: numbers per slot, in arrays, so that a step handles all rows at once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from laurel.tree import Float32Array, IntArray


def _integers(rows: int) -> IntArray:
    return np.zeros(rows, np.int64)


@dataclass
class Rows:
    """Rows `0 .. live-1` are in use. All arrays have one entry per slot.

    Attributes:
        slots: how many rows may live at once.
        rollout: which rollout the row draws for.
        key: the rollout's stream of random numbers.
        path: tokens on the row's path so far, the last drawn one included; the position of the next token.
        prefix: tokens of the path that stand in a shared prefix (0: the prefix was copied into the row).
        own: tokens of the path that stand in the row's own cache; the last drawn token is not computed yet.
        block, node: the shared prefix.
        pending: the last drawn token.
        drawn: tokens of this turn so far.
        allowed: how many tokens this turn may have.
        cut: the `Stop` that reaching `allowed` means.
        tokens, log_probs: [slots, capacity] what was drawn in this turn.
    """

    slots: int
    live: int = 0
    rollout: IntArray = field(init=False)
    key: IntArray = field(init=False)
    path: IntArray = field(init=False)
    prefix: IntArray = field(init=False)
    own: IntArray = field(init=False)
    block: IntArray = field(init=False)
    node: IntArray = field(init=False)
    pending: IntArray = field(init=False)
    drawn: IntArray = field(init=False)
    allowed: IntArray = field(init=False)
    cut: IntArray = field(init=False)
    tokens: IntArray = field(init=False)
    log_probs: Float32Array = field(init=False)

    def __post_init__(self) -> None:
        for name in _PER_ROW:
            setattr(self, name, _integers(self.slots))
        self.tokens = np.zeros((self.slots, 64), np.int64)
        self.log_probs = np.zeros((self.slots, 64), np.float32)

    def record(self, slots: IntArray, tokens: IntArray, log_probs: Float32Array) -> None:
        """Append one drawn token to each of these rows."""
        at = self.drawn[slots]
        if len(at) and int(at.max()) >= self.tokens.shape[1]:
            self.tokens = np.concatenate([self.tokens, np.zeros_like(self.tokens)], axis=1)
            self.log_probs = np.concatenate([self.log_probs, np.zeros_like(self.log_probs)], axis=1)
        self.tokens[slots, at] = tokens
        self.log_probs[slots, at] = log_probs
        self.pending[slots] = tokens
        self.drawn[slots] += 1
        self.path[slots] += 1

    def release(self, slots: IntArray) -> tuple[IntArray, IntArray]:
        """Give slots back; the last rows move into the holes. Returns where moved rows come from and go to."""
        live = self.live - len(slots)
        gone = np.zeros(self.live, np.bool_)
        gone[slots] = True
        targets = np.flatnonzero(gone[:live])
        sources = live + np.flatnonzero(~gone[live:])
        for name in (*_PER_ROW, "tokens", "log_probs"):
            array = getattr(self, name)
            array[targets] = array[sources]
        self.live = live
        return sources, targets


_PER_ROW = tuple(f.name for f in fields(Rows) if f.name not in ("slots", "live", "tokens", "log_probs"))
