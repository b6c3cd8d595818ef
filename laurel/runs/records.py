"""What a run remembers, as values, and trees and their credit as rows of its tables and back."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from laurel.errors import RunError
from laurel.metrics import Metric
from laurel.runs.blobs import decode, encode
from laurel.runs.phases import phase
from laurel.tree import Ending, Failed, Outcome, Sampling, Score, Segment, Source, Support, Tree

if TYPE_CHECKING:
    from laurel.algorithms.algorithm import Credit

Row = tuple[Any, ...]

# What a step's trees were for: to learn from, drawn but left out, or (with the name behind it) an evaluation.
LEARNED = "learned"
DISCARDED = "discarded"
EVALUATION = "evaluation:"


@dataclass(frozen=True)
class Event:
    """Something that a reader of the run should know: a skipped step, a warning, where it was resumed.

    Attributes:
        kind: one word; Laurel writes "warning", "skipped" (an update), "resumed" and "damaged" (a checkpoint).
        text: what happened.
        step: the step it belongs to, None for the run as a whole.
        time: seconds since 1970, filled in when it is recorded.
    """

    kind: str
    text: str
    step: int | None = None
    time: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """The mean score of a named held-out set after a step (`sum` and `count`)."""

    name: str
    step: int
    metric: Metric


def check(trees: Sequence[Tree], credits: Sequence[Credit] | None) -> None:
    """Refuse two trees of one name, and credit that does not fit its tree.

    Raises:
        RunError: naming the tree.
    """
    names = Counter(tree.id for tree in trees)
    if len(names) < len(trees):
        twice = names.most_common(1)[0][0]
        raise RunError(f"Two trees of one step are called {twice}.", hint="ids fix the draws: give each tree its own.")
    if credits is None:
        return
    if len(trees) != len(credits):
        raise RunError(f"{len(trees)} trees but {len(credits)} credits.", hint="pass one Credit per tree, in order.")
    for tree, credit in zip(trees, credits, strict=True):
        length = sum(map(len, tree.segments))
        if credit.advantages.shape != (length,) or credit.mask.shape != (length,):
            raise RunError(
                f"Tree {tree.id} has {length} tokens, but advantages {credit.advantages.shape} and mask "
                f"{credit.mask.shape}.",
                hint="credit is aligned with tree.flat.",
            )


def insert_trees(
    connection: sqlite3.Connection,
    step: int,
    collection: str,
    trees: Sequence[Tree],
    credits: Sequence[Credit] | None,
) -> None:
    """Write trees, and their credit where they have one, inside the caller's transaction.

    Args:
        collection: what they were for, such as LEARNED; a step may have several.
    """
    check(trees, credits)
    blobs: Sequence[Row] = [(None, None)] * len(trees) if credits is None else [_credit_blobs(c) for c in credits]
    rows: list[Row] = [
        (step, collection, place, tree.id, storable(tree.task_id), *_counts(tree), *credit)
        for place, (tree, credit) in enumerate(zip(trees, blobs, strict=True))
    ]
    connection.executemany(f"INSERT INTO trees VALUES ({_marks(9)})", rows)
    phase("in_record", step)
    rows = [
        (step, collection, number, place, *_segment_row(segment))
        for number, tree in enumerate(trees)
        for place, segment in enumerate(tree.segments)
    ]
    connection.executemany(f"INSERT INTO segments VALUES ({_marks(20)})", rows)


def _marks(columns: int) -> str:
    return ", ".join("?" * columns)


def _counts(tree: Tree) -> tuple[int, int]:
    """How many rollouts it has, and how many of them failed (what was left out on purpose did not)."""
    outcomes = [tree.segments[leaf].outcome for leaf in tree.leaves]
    return len(outcomes), sum(o is not None and o.failed and not o.left_out for o in outcomes)


def _credit_blobs(credit: Credit) -> Row:
    advantages = encode(np.asarray(credit.advantages, np.float64), compress=True)
    return advantages, encode(np.asarray(credit.mask, np.bool_), compress=True)


def _segment_row(segment: Segment) -> Row:
    outcome, support = segment.outcome, segment.support
    return (
        segment.parent,
        int(segment.source),
        segment.rollout_id,
        segment.policy_version,
        float(segment.reward),
        None if outcome is None else str(outcome.ending),
        None if outcome is None else storable(outcome.stop_reason),
        *score_columns(None if outcome is None else outcome.score),
        None if segment.sampling is None else _sampling_text(segment.sampling),
        storable(segment.text),
        encode(segment.tokens),
        None if segment.sampler_log_probs is None else encode(segment.sampler_log_probs),
        None if support is None else encode(support.ids),
        None if support is None else encode(support.offsets),
    )


def score_columns(score: Score | Failed | None) -> tuple[float | None, str | None, str | bytes | None]:
    """The columns score, score_parts and failure; at most one of score and failure is filled."""
    if isinstance(score, Failed):
        return None, None, storable(score.reason)
    if score is None:
        return None, None, None
    parts = json.dumps({name: float(value) for name, value in score.parts.items()}) if score.parts else None
    return float(score.value), parts, None


def read_score(score: float | None, parts: str | None, failure: str | bytes | None) -> Score | Failed | None:
    """What `score_columns` was given."""
    if failure is not None:
        return Failed(text_of(failure))
    return None if score is None else Score(score, json.loads(parts) if parts else {})


def read_trees(connection: sqlite3.Connection, step: int, collection: str) -> list[Tree]:
    """The trees of a step as they were recorded."""
    segments: dict[int, list[Segment]] = {}
    columns = (
        "tree, parent, source, rollout_id, policy_version, reward, ending, stop_reason, score, score_parts, failure,"
        " sampling, text, tokens, sampler_log_probs, support_ids, support_offsets"
    )
    where = "WHERE step = ? AND collection = ? ORDER BY"
    for row in connection.execute(f"SELECT {columns} FROM segments {where} tree, place", (step, collection)):
        segments.setdefault(row[0], []).append(_read_segment(row[1:]))
    trees = connection.execute(f"SELECT place, id, task_id FROM trees {where} place", (step, collection))
    return [Tree(name, text_of(task), tuple(segments[place])) for place, name, task in trees]


def _read_segment(row: Row) -> Segment:
    parent, source, rollout_id, version, reward, ending, stop_reason, *score = row[:10]
    sampling, text, tokens, log_probs, ids, offsets = row[10:]
    return Segment(
        source=Source(source),
        tokens=decode(tokens),
        parent=parent,
        text=text_of(text),
        sampler_log_probs=None if log_probs is None else decode(log_probs),
        sampling=None if sampling is None else _read_sampling(sampling),
        support=None if ids is None else Support(decode(ids), decode(offsets)),
        policy_version=version,
        reward=reward,
        outcome=None if ending is None else Outcome(Ending(ending), text_of(stop_reason), read_score(*score)),
        rollout_id=rollout_id,
    )


def read_credits(connection: sqlite3.Connection, step: int) -> list[Credit]:
    """The credit of a step's trees as it was recorded."""
    # Here and not above: the algorithms bring torch along, which reading anything else of a run does not need.
    from laurel.algorithms.algorithm import Credit

    where = "WHERE step = ? AND collection = ? ORDER BY place"
    rows = connection.execute(f"SELECT advantages, mask FROM trees {where}", (step, LEARNED))
    return [Credit(advantages=decode(advantages), mask=decode(mask)) for advantages, mask in rows]


def storable(text: str) -> str | bytes:
    """The text, or its bytes where it holds half a surrogate pair: broken text must not stop a run."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")
    return text


def printable(text: str) -> str:
    """The text with half surrogate pairs replaced: good enough for messages."""
    return text.encode(errors="replace").decode()


def text_of(stored: str | bytes) -> str:
    """What `storable` was given."""
    return stored if isinstance(stored, str) else stored.decode(errors="surrogatepass")


@lru_cache(maxsize=64)
def _sampling_text(sampling: Sampling) -> str:
    return json.dumps(asdict(sampling))


@lru_cache(maxsize=64)
def _read_sampling(text: str) -> Sampling:
    return Sampling(**json.loads(text))
