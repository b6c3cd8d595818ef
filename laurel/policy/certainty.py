"""How sure a policy is of what it wrote, as a reward: nothing is compared with anything but the policy's own logits.

With z_t the logits that predicted token t of an answer, over the whole vocabulary of size V, at temperature 1:

    self-certainty(o) = 1/|o| sum_t KL(uniform, softmax(z_t)) = 1/|o| sum_t (logsumexp(z_t) - mean(z_t) - log V)
    entropy(o)        = 1/|o| sum_t (logsumexp(z_t) - sum_v softmax(z_t)_v z_tv)                       in nats

whatever temperature and truncation the tokens were drawn with. |o| counts the tokens that the policy drew in all its
turns, the end token included. V is the width of the output head, rows that no token uses among them.

Only one chunk of logits is held at a time (`laurel.policy.log_probs`), and what answers share is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from laurel.policy.divergence import Compared
from laurel.policy.log_probs import CHUNK_ELEMENTS, Rows, chunks
from laurel.policy.packed import Packed, pack
from laurel.policy.policy import Policy, Reference
from laurel.policy.read_rollouts import RolloutReader
from laurel.policy.tree_attention import TreeAttention
from laurel.tasks.task import Task
from laurel.tree import Failed, FloatArray, Rollout, Score, Source, Tree


def kl_from_uniform(logits: Tensor) -> Tensor:
    """KL(uniform, softmax(z)) of each row [..., V], in nats: 0 where all are equal, without bound above."""
    return torch.logsumexp(logits, -1) - logits.mean(-1) - math.log(logits.shape[-1])


def negative_entropies(logits: Tensor) -> Tensor:
    """sum_v p_v log p_v of each row [..., V], p = softmax(z), in nats: from -log V to 0."""
    log_p = torch.log_softmax(logits, -1)
    return (log_p.exp() * log_p).sum(-1)


MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "self_certainty": kl_from_uniform,
    "negative_entropy": negative_entropies,
}
"""What a row of logits is worth, by the name of the reward."""


@dataclass(frozen=True)
class Certainty:
    """How sure the policy is; `laurel.train` binds it to its policy. See `self_certainty` and `negative_entropy`.

    Attributes:
        frozen: ask the policy as it was at the start of the run.
    """

    runs_in_process: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = False
    measure: ClassVar[str]
    frozen: bool = False

    def __call__(self, task: Task, rollout: Rollout) -> Failed:
        return Failed(f"{self.measure} is read from a policy's logits, and no policy is at hand")

    def read_for(self, writer: Policy, start: Reference | None = None) -> CertaintyReader:
        """The reward of what this policy writes.

        Args:
            start: the policy as it was; None: as it is now.
        """
        asked = (start or writer.snapshot("start")) if self.frozen else None
        return CertaintyReader(writer, MEASURES[self.measure], self, asked)


@dataclass(frozen=True)
class SelfCertainty(Certainty):
    """See `self_certainty`."""

    measure: ClassVar[str] = "self_certainty"


@dataclass(frozen=True)
class NegativeEntropy(Certainty):
    """See `negative_entropy`."""

    measure: ClassVar[str] = "negative_entropy"


def self_certainty(*, frozen: bool = False) -> SelfCertainty:
    """How far the policy's next-token distributions are from uniform, averaged over the answer (Intuitor).

    Source: Zhao et al. 2025, arXiv 2505.19590, equation 3; equal to logsumexp(z) - mean(z) - log V per token.

    Args:
        frozen: ask the policy as it was at the start of the run, which answers can learn to please; else the policy as
            it is, whose opinion moves along.
    """
    return SelfCertainty(frozen)


def negative_entropy(*, frozen: bool = False) -> NegativeEntropy:
    """Minus the mean entropy of the policy's next-token distributions over the answer (RENT).

    Source: Prabhudesai et al. 2025, arXiv 2505.22660, equation 4 (of all tokens of the answer).

    Args:
        frozen: as in `self_certainty`.
    """
    return NegativeEntropy(frozen)


class CertaintyReader(RolloutReader):
    """`Certainty`, bound to the policy whose rollouts it reads.

    Args:
        writer: that policy; only read.
        measure: [R, V] logits to [R] what they are worth.
        reward: what it was made from.
        start: who is asked in place of the writer, if anybody.
    """

    reads_labels = False

    def __init__(
        self, writer: Policy, measure: Callable[[Tensor], Tensor], reward: Certainty, start: Reference | None = None
    ) -> None:
        super().__init__(writer, writer=writer)
        self.measure = measure
        self.reward = reward
        self.start = start

    @property
    def description(self) -> dict[str, Any]:
        """What a run records of it."""
        return {"type": type(self.reward).__name__, "frozen": self.reward.frozen}

    def read_for(self, writer: Policy) -> CertaintyReader:
        return CertaintyReader(writer, self.measure, self.reward, self.start)

    @torch.no_grad()
    def read(self, trees: Sequence[Tree], segments: Sequence[Sequence[int]]) -> list[float]:
        packed = pack(trees, [tree.flat.policy for tree in trees], self.reader.device)
        by_row = measured(self._view(packed), packed.rows, self.measure)
        by_token = iter(np.split(by_row[packed.row_of.cpu().numpy()], np.cumsum([t.flat.policy.sum() for t in trees])))
        said: list[float] = []
        for tree, ends in zip(trees, segments, strict=True):
            values = np.zeros(len(tree.flat))
            values[tree.flat.policy] = next(by_token)
            said += [_mean_on_path(tree, values, end) for end in ends]
        return said

    def _view(self, packed: Packed) -> Compared:
        if self.start is not None:
            return self.start.compared(packed)
        plan = TreeAttention.of(packed)
        hidden = self.reader.hidden_states(packed.tokens, packed.positions, plan, packed.row_predictors)
        return Compared(hidden, self.reader.head)

    def scored(self, said: Sequence[float]) -> Score:
        return Score(said[0])


def measured(
    view: Compared, rows: Rows, measure: Callable[[Tensor], Tensor], *, chunk_elements: int = CHUNK_ELEMENTS
) -> FloatArray:
    """[R] what each row's whole distribution at temperature 1 is worth, a chunk of logits at a time.

    Args:
        view: the final hidden states [R, D] and the output head.
        rows: for their number alone; temperatures and kept sets are not read.
        measure: [C, V] logits to [C].
        chunk_elements: most logits to hold at once.
    """
    parts = [
        measure(view.head.logits(view.hidden[chunk.rows])).double().cpu().numpy()
        for chunk in chunks(rows, len(view.head.weight), chunk_elements)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _mean_on_path(tree: Tree, values: FloatArray, end: int) -> float:
    """The mean over the policy's tokens from the prompt to the end of a segment; NaN where it wrote none."""
    flat = tree.flat
    own = [s for s in tree.path(end) if tree.segments[s].source is Source.POLICY]
    written = np.concatenate([values[flat.starts[s] : flat.ends[s]] for s in own] or [np.full(1, np.nan)])
    return float(written.mean())
