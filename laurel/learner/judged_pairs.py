"""Two rollouts that a teacher compared: as a tree with scores, and as data that a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from laurel.tree import Ending, Outcome, Score, Segment, Source, Tree


def judged_as(tree: Tree, scores: Mapping[int, float]) -> Tree:
    """The tree with these scores on its leaves; leaves that failed keep their failure."""
    outcomes = {}
    for leaf, score in scores.items():
        outcome = tree.segments[leaf].outcome
        if outcome is None or not outcome.failed:
            outcomes[leaf] = Outcome(Ending.TERMINATED if outcome is None else outcome.ending, "judged", Score(score))
    return tree.with_outcomes(outcomes)


def without_failures(tree: Tree) -> Tree | None:
    """The tree without rollouts that failed; None if all did."""
    outcomes = {leaf: tree.segments[leaf].outcome for leaf in tree.leaves}
    live = [leaf for leaf, outcome in outcomes.items() if outcome is not None and not outcome.failed]
    return tree.above(live)[0] if live else None


def scores_of(tree: Tree) -> dict[int, float]:
    """The scores of the leaves that have one."""
    outcomes = {leaf: tree.segments[leaf].outcome for leaf in tree.leaves}
    return {leaf: o.score.value for leaf, o in outcomes.items() if o is not None and isinstance(o.score, Score)}


def judged_pair(tree: Tree, leaves: tuple[int, int], verdict: float) -> Tree:
    """The two rollouts alone, the first with the score `verdict`, the second with 1 - `verdict`."""
    small, moved = tree.above(leaves)
    return judged_as(small, {moved[leaves[0]]: verdict, moved[leaves[1]]: 1 - verdict})


def label_alone(tree: Tree, leaves: tuple[int, int], verdict: float) -> Tree:
    """`judged_pair` without what only a learner of policies reads, as it comes back from a checkpoint."""
    return pair_from_data(pair_as_data(judged_pair(tree, leaves, verdict)))


def pair_as_data(tree: Tree) -> dict[str, Any]:
    """A judged tree as JSON: its tokens, its texts and its scores."""
    return {
        "id": tree.id,
        "task": tree.task_id,
        "segments": [[int(s.source), s.parent, s.tokens.tolist(), s.text] for s in tree.segments],
        "scores": [[leaf, score] for leaf, score in scores_of(tree).items()],
    }


def pair_from_data(kept: Mapping[str, Any]) -> Tree:
    """The tree that `pair_as_data` was given."""
    segments = tuple(
        Segment(Source(source), np.array(tokens, np.int64), parent, text=text)
        for source, parent, tokens, text in kept["segments"]
    )
    return judged_as(Tree(kept["id"], kept["task"], segments), dict(kept["scores"]))
