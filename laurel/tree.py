"""Experience: a tree of token segments. One type for fans, dialogues, pairs, rankings and branches in the middle.

A two-turn guessing game with two samples, as it is laid out flat (depth first):

    segment           source       parent  tokens   flat index  position  parent token
    0 "guess 1-9:"    PROMPT         -     10 11    0 1         0 1       -  0
    1 "5"             POLICY         0     20       2           2         1
    2 "lower"         ENVIRONMENT    1     30       3           3         2
    3 "3<eos>"        POLICY         2     21 1     4 5         4 5       3  4     leaf: terminated, score 1
    4 "9<eos>"        POLICY         0     22 1     6 7         2 3       1  6     leaf: terminated, score 0

The prompt is stored (and later computed) once, although two rollouts pass through it. Position is depth on the
path; a token attends to its ancestors only; the logits that predict a token are those of its parent token. Token 6
("9") is predicted by token 1, exactly like token 2 ("5"): both first answers share the logits row of the last prompt
token. Only POLICY tokens can carry loss.

This module knows numpy and nothing else of the project but its errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from laurel.errors import TreeError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


class Source(IntEnum):
    """Who wrote a token. An EXPERT took the policy's turn: the policy reads that as its own, and nobody learns from it
    as a draw of the policy.
    """

    PROMPT = 0
    POLICY = 1
    ENVIRONMENT = 2
    EXPERT = 3


class Ending(StrEnum):
    """How a rollout ended. Terminated and truncated are never merged: only a truncated one bootstraps a value."""

    TERMINATED = "terminated"
    TRUNCATED = "truncated"
    FAILED = "failed"


@dataclass(frozen=True)
class Score:
    """A reward that was really computed: a finite number, and the named parts it was made of."""

    value: float
    parts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.value, int | float | np.integer | np.floating | np.bool_) or not np.isfinite(self.value):
            raise TreeError(f"A score must be a finite number, got {self.value!r}.", hint="return Failed instead.")


@dataclass(frozen=True)
class Failed:
    """A reward or a rollout that could not be computed. It is no number: it enters no baseline and no gradient."""

    reason: str

    @property
    def left_out(self) -> bool:
        """Whether nothing broke, and it was left out on purpose. No failure count has it."""
        return self in (LEFT_OUT, MISMATCHED, UNDECIDED)


LEFT_OUT = Failed("truncated, and left out as `truncated_reward` asks")
"""The score of a truncated rollout that the grading settings leave out."""

STEP_PART = "step "
"""What the names of a score's parts start with that belong to the steps of a rollout; their number from 1 follows."""

MISMATCHED = Failed("an answer to another prompt, there to estimate a divergence")
"""The score of an answer that nobody gave to this prompt."""

UNDECIDED = Failed("left out: the other answers to its prompt do not tell whether it is better or worse")
"""The score of an answer that a reward without labels judges by its siblings, where these are none, or of no use."""


@dataclass(frozen=True)
class Sampling:
    """The distribution that tokens are drawn from, relative to the model's logits; recorded with every segment.

    p(token) = softmax(logits / temperature) restricted to the kept tokens and renormalised, where a token is kept if
    it is among the `top_k` largest, in the smallest set of mass >= `top_p`, and has at least `min_p` times the
    largest probability (all three on the tempered probabilities; ties at a boundary are kept).
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise TreeError(f"temperature must be above 0, got {self.temperature}.", hint="use top_k=1 for greedy.")
        if self.top_k is not None and self.top_k < 1:
            raise TreeError(f"top_k must be at least 1, got {self.top_k}.", hint="leave it out to keep all tokens.")
        if not 0 < self.top_p <= 1:
            raise TreeError(f"top_p must lie in (0, 1], got {self.top_p}.", hint="1.0 keeps all tokens.")
        if not 0 <= self.min_p < 1:
            raise TreeError(f"min_p must lie in [0, 1), got {self.min_p}.", hint="0.0 keeps all tokens.")

    @property
    def truncates(self) -> bool:
        """Whether some tokens can have probability zero, so that the kept set has to be recorded."""
        return self.top_k is not None or self.top_p < 1 or self.min_p > 0


@dataclass(frozen=True)
class Outcome:
    """How one rollout (one leaf) ended, why its last segment stopped, and what it scored (None: not graded yet)."""

    ending: Ending
    stop_reason: str
    score: Score | Failed | None = None

    @property
    def failed(self) -> bool:
        """Neither a number nor usable for one: the rollout broke or its grader did."""
        return self.ending is Ending.FAILED or isinstance(self.score, Failed)

    @property
    def left_out(self) -> bool:
        """Not usable, though nothing broke: see `Failed.left_out`."""
        return isinstance(self.score, Failed) and self.score.left_out


@dataclass(frozen=True)
class Support:
    """The tokens that truncation kept at each position of a segment; row t is `ids[offsets[t]:offsets[t + 1]]`."""

    ids: IntArray
    offsets: IntArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", _frozen(self.ids, np.int64))
        object.__setattr__(self, "offsets", _frozen(self.offsets, np.int64))
        if self.ids.ndim != 1 or self.offsets.ndim != 1 or len(self.offsets) == 0:
            raise TreeError("The ids and offsets of a support need one dimension each, and at least one offset.")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.ids) or (np.diff(self.offsets) < 0).any():
            raise TreeError(
                f"The offsets of a support must rise from 0 to its {len(self.ids)} ids, got {self.offsets.tolist()}.",
                hint="row t is ids[offsets[t]:offsets[t + 1]].",
            )


@dataclass(frozen=True, eq=False)
class Segment:
    """A run of tokens with one author.

    Attributes:
        source: who wrote it.
        tokens: [L] token ids, L >= 1.
        parent: index of the segment that it continues (at its end), -1 for the root.
        text: what the tokens say, for people and graders; never a way back to training tokens.
        sampler_log_probs: [L] log-probability of each token under the distribution that drew it (POLICY only).
        sampling: that distribution's settings (POLICY only; None for demonstrations).
        support: the kept tokens, where `sampling` truncates.
        policy_version: number of optimiser steps behind the weights that drew it (None for demonstrations).
        reward: reward that arrived with this segment (an environment's, a process score), 0 if none.
        token_rewards: [L] how `reward` is spread over the tokens, where it did not all come with the last; a penalty
            per token is put here for credit to see, and is not recorded with the run.
        outcome: on a leaf, how the rollout ended.
        rollout_id: the name of the rollout that drew it; with the run's seed and the position it fixes every draw.
    """

    source: Source
    tokens: IntArray
    parent: int
    text: str = ""
    sampler_log_probs: Float32Array | None = None
    sampling: Sampling | None = None
    support: Support | None = None
    policy_version: int | None = None
    reward: float = 0.0
    outcome: Outcome | None = None
    rollout_id: str | None = None
    token_rewards: FloatArray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", _frozen(self.tokens, np.int64))
        if self.tokens.ndim != 1 or len(self.tokens) == 0:
            raise TreeError("A segment needs at least one token in one dimension.", hint="leave empty segments out.")
        if self.sampler_log_probs is not None:
            object.__setattr__(self, "sampler_log_probs", _frozen(self.sampler_log_probs, np.float32))
            if self.source is not Source.POLICY:
                raise TreeError("Only POLICY segments have sampler log-probs.", hint="check the segment's source.")
            if len(self.sampler_log_probs) != len(self.tokens):
                raise TreeError(
                    f"{len(self.tokens)} tokens but {len(self.sampler_log_probs)} sampler log-probs.",
                    hint="record one log-probability per drawn token.",
                )
            if not np.isfinite(self.sampler_log_probs).all():
                raise TreeError("A drawn token has a log-probability that is not finite.", hint="check the model.")
        if self.support is not None and len(self.support.offsets) != len(self.tokens) + 1:
            raise TreeError("The support needs one row per token.", hint="record the kept tokens of every draw.")
        if not np.isfinite(self.reward):
            raise TreeError(f"A segment's reward must be finite, got {self.reward}.", hint="use Failed instead.")
        if self.token_rewards is not None:
            object.__setattr__(self, "token_rewards", _frozen(self.token_rewards, np.float64))
            if self.token_rewards.shape != self.tokens.shape or not np.isclose(self.token_rewards.sum(), self.reward):
                raise TreeError(
                    f"{self.token_rewards.shape} token rewards do not spread the reward {self.reward} over "
                    f"{len(self.tokens)} tokens.",
                    hint="give one number per token, which sum to the segment's reward.",
                )

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Flat:
    """A tree laid out depth first. T tokens, S segments; all arrays are read-only.

    Attributes:
        tokens, source, segment, position: [T] id, author, segment index and depth on the path of each token.
        parent: [T] flat index of the token before it on its path; -1 for the first.
        starts, ends: [S] first token of each segment and one past its last.
        subtree_ends: [S] one past the last token below it: its descendants are exactly `ends[s]:subtree_ends[s]`.
        policy: [T] whether the policy wrote the token.
        sampler_log_probs: [T], NaN where there is none.
    """

    tokens: IntArray
    source: IntArray
    segment: IntArray
    position: IntArray
    parent: IntArray
    starts: IntArray
    ends: IntArray
    subtree_ends: IntArray
    policy: BoolArray
    sampler_log_probs: Float32Array

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, eq=False)
class Tree:
    """All experience below one prompt. Segments stand in depth-first order; segment 0 is the only root.

    Use `Tree.build` to put segments that were collected in another order into depth-first order.
    """

    id: str
    task_id: str
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        if not self.segments or self.segments[0].parent != -1:
            raise TreeError(f"Tree {self.id}: the first segment must be the root (parent -1).")
        path = [0]
        for index, segment in enumerate(self.segments[1:], start=1):
            while path and path[-1] != segment.parent:
                path.pop()
            if not path:
                raise TreeError(
                    f"Tree {self.id}: segment {index} names parent {segment.parent}, which is not on the open path.",
                    hint="use Tree.build to bring segments into depth-first order.",
                )
            path.append(index)
        for index, segment in enumerate(self.segments):
            if segment.outcome is not None and self.children[index]:
                raise TreeError(f"Tree {self.id}: segment {index} has an outcome but is no leaf.")

    @classmethod
    def build(cls, id: str, task_id: str, segments: Sequence[Segment]) -> Tree:
        """A tree from segments whose parents precede them, in any such order; siblings keep their order."""
        children: list[list[int]] = [[] for _ in segments]
        for index, segment in enumerate(segments[1:], start=1):
            if not 0 <= segment.parent < index:
                raise TreeError(f"Tree {id}: segment {index} must follow its parent, but names {segment.parent}.")
            children[segment.parent].append(index)
        order: list[int] = []
        stack = [0] if segments else []
        while stack:
            order.append(stack.pop())
            stack.extend(reversed(children[order[-1]]))
        place = {old: new for new, old in enumerate(order)}
        return cls(
            id,
            task_id,
            tuple(replace(segments[old], parent=place.get(segments[old].parent, -1)) for old in order),
        )

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """The segments that continue each segment."""
        below: list[list[int]] = [[] for _ in self.segments]
        for index, segment in enumerate(self.segments[1:], start=1):
            below[segment.parent].append(index)
        return tuple(map(tuple, below))

    @cached_property
    def leaves(self) -> tuple[int, ...]:
        """The segments that nothing continues, one per rollout, in depth-first order."""
        return tuple(index for index, below in enumerate(self.children) if not below)

    def path(self, segment: int) -> tuple[int, ...]:
        """Segment indices from the root to `segment`, both included."""
        steps = [segment]
        while self.segments[steps[-1]].parent >= 0:
            steps.append(self.segments[steps[-1]].parent)
        return tuple(reversed(steps))

    @cached_property
    def rollouts(self) -> tuple[Rollout, ...]:
        """One view per leaf."""
        return tuple(Rollout(self, leaf) for leaf in self.leaves)

    @cached_property
    def flat(self) -> Flat:
        """The depth-first layout of all tokens."""
        return _flatten(self.segments)

    def above(self, leaves: Sequence[int]) -> tuple[Tree, dict[int, int]]:
        """The part of the tree above (and with) some segments, and where its segments are now, by where they were."""
        kept = sorted({segment for leaf in leaves for segment in self.path(leaf)})
        moved = {old: new for new, old in enumerate(kept)}
        segments = (replace(self.segments[old], parent=moved.get(self.segments[old].parent, -1)) for old in kept)
        return replace(self, segments=tuple(segments)), moved

    def with_outcomes(self, outcomes: Mapping[int, Outcome]) -> Tree:
        """The same tree with these outcomes on these leaves."""
        segments = [replace(s, outcome=outcomes.get(i, s.outcome)) for i, s in enumerate(self.segments)]
        return replace(self, segments=tuple(segments))

    def split(self, segment: int, at: int) -> Tree:
        """The same tree with one segment cut in two before its token `at`. Nothing downstream may notice."""
        old = self.segments[segment]
        if not 0 < at < len(old):
            raise TreeError(f"Tree {self.id}: cannot cut segment {segment} of {len(old)} tokens at {at}.")
        log_probs, support, spread = old.sampler_log_probs, old.support, old.token_rewards
        early = 0.0 if spread is None else float(spread[:at].sum())
        halves = []
        for part, reward in ((slice(0, at), early), (slice(at, len(old)), old.reward - early)):
            halves.append(
                replace(
                    old,
                    tokens=old.tokens[part],
                    sampler_log_probs=None if log_probs is None else log_probs[part],
                    support=None if support is None else _cut_support(support, part),
                    reward=reward,
                    token_rewards=None if spread is None else spread[part],
                )
            )
        first = replace(halves[0], outcome=None, text="")
        second = replace(halves[1], parent=segment)
        moved = [replace(s, parent=s.parent + (s.parent >= segment)) for s in self.segments[segment + 1 :]]
        return replace(self, segments=(*self.segments[:segment], first, second, *moved))


@dataclass(frozen=True)
class Rollout:
    """One root-to-leaf path of a tree, as graders and people see it."""

    tree: Tree
    leaf: int

    @property
    def id(self) -> str:
        """The rollout's name: that of its last drawn segment, else its place in the tree."""
        return self.tree.segments[self.leaf].rollout_id or f"{self.tree.id}.{self.leaf}"

    @property
    def segments(self) -> tuple[Segment, ...]:
        """From the prompt to the leaf."""
        return tuple(self.tree.segments[index] for index in self.tree.path(self.leaf))

    @property
    def outcome(self) -> Outcome | None:
        """How it ended and what it scored; None while it is being sampled."""
        return self.tree.segments[self.leaf].outcome

    @property
    def text(self) -> str:
        """What the policy wrote in its last turn (the whole answer where there is one turn)."""
        parts: list[str] = []
        for segment in reversed(self.segments):
            if segment.source is Source.POLICY:
                parts.append(segment.text)
            elif parts:
                break
        return "".join(reversed(parts))

    @property
    def turns(self) -> tuple[tuple[Source, str], ...]:
        """The dialogue: who wrote what, neighbouring segments of one author joined."""
        turns: list[tuple[Source, str]] = []
        for segment in self.segments:
            if turns and turns[-1][0] is segment.source:
                turns[-1] = (segment.source, turns[-1][1] + segment.text)
            else:
                turns.append((segment.source, segment.text))
        return tuple(turns)

    @property
    def reward(self) -> float:
        """Everything this rollout earned: the rewards on its segments and its score.

        Raises:
            TreeError: if it failed or was not graded; a failure is not a zero.
        """
        outcome = self.outcome
        if outcome is None or outcome.failed or not isinstance(outcome.score, Score):
            raise TreeError(f"Rollout {self.id} has no reward: {outcome}.", hint="leave failed rollouts out first.")
        return outcome.score.value + sum(segment.reward for segment in self.segments)


def _frozen(values: npt.ArrayLike, dtype: type) -> np.ndarray:
    array: np.ndarray = np.array(values, dtype=dtype)
    array.flags.writeable = False
    return array


def _cut_support(support: Support, part: slice) -> Support:
    offsets = support.offsets[part.start : part.stop + 1]
    return Support(support.ids[offsets[0] : offsets[-1]], offsets - offsets[0])


def _flatten(segments: Iterable[Segment]) -> Flat:
    segments = tuple(segments)
    lengths = np.array([len(s) for s in segments])
    ends = np.cumsum(lengths)
    starts = ends - lengths
    subtree_ends = ends.copy()
    depth = np.zeros(len(segments), np.int64)
    for index, segment in enumerate(segments[1:], start=1):
        depth[index] = depth[segment.parent] + lengths[segment.parent]
    for index in range(len(segments) - 1, 0, -1):
        above = segments[index].parent
        subtree_ends[above] = max(subtree_ends[above], subtree_ends[index])
    total = int(ends[-1])
    within = np.arange(total) - np.repeat(starts, lengths)
    parent = np.arange(total) - 1
    for index, segment in enumerate(segments):
        parent[starts[index]] = ends[segment.parent] - 1 if segment.parent >= 0 else -1
    source = np.repeat([int(s.source) for s in segments], lengths)
    log_probs = [np.full(len(s), np.nan) if s.sampler_log_probs is None else s.sampler_log_probs for s in segments]
    return Flat(
        tokens=_frozen(np.concatenate([s.tokens for s in segments]), np.int64),
        source=_frozen(source, np.int64),
        segment=_frozen(np.repeat(np.arange(len(segments)), lengths), np.int64),
        position=_frozen(np.repeat(depth, lengths) + within, np.int64),
        parent=_frozen(parent, np.int64),
        starts=_frozen(starts, np.int64),
        ends=_frozen(ends, np.int64),
        subtree_ends=_frozen(subtree_ends, np.int64),
        policy=_frozen(source == Source.POLICY, np.bool_),
        sampler_log_probs=_frozen(np.concatenate(log_probs), np.float32),
    )
