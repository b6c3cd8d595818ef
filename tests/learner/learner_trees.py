"""Trees for the tests of the learner: fans, dialogues and branches, with tokens drawn at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laurel.tree import Ending, Failed, Outcome, Sampling, Score, Segment, Source, Tree

VOCABULARY = 12


def outcome(score: float | None) -> Outcome:
    """Terminated with this score; None: the grader failed."""
    return Outcome(Ending.TERMINATED, "end", Failed("the grader broke") if score is None else Score(score))


def segment(
    draw: np.random.Generator,
    source: Source,
    parent: int,
    length: int,
    *,
    score: float | None = None,
    leaf: bool = False,
    name: str | None = None,
    version: int = 0,
) -> Segment:
    drawn = source is Source.POLICY
    return Segment(
        source,
        draw.integers(2, VOCABULARY, length),
        parent,
        sampler_log_probs=np.log(draw.uniform(0.05, 0.5, length)).astype(np.float32) if drawn else None,
        sampling=Sampling() if drawn else None,
        policy_version=version if drawn else None,
        outcome=outcome(score) if leaf else None,
        rollout_id=name if drawn else None,
    )


def fan(id: str, scores: Sequence[float | None], *, seed: int, prompt: int = 5, longest: int = 9) -> Tree:
    """A prompt with one answer per score, of ragged lengths."""
    draw = np.random.default_rng(seed)
    segments = [segment(draw, Source.PROMPT, -1, prompt)]
    for index, score in enumerate(scores):
        length = int(draw.integers(1, longest + 1))
        segments.append(segment(draw, Source.POLICY, 0, length, score=score, leaf=True, name=f"{id}.{index}"))
    return Tree(id, id, tuple(segments))


def dialogue(id: str, *, seed: int) -> Tree:
    """Two turns with a branch in the middle: a shared policy turn, an observation, two answers; and a third rollout.

    prompt -+- policy a - environment -+- policy b (score 1)
            |                          +- policy c (score 0)
            +- policy d (score 0.25)
    """
    draw = np.random.default_rng(seed)
    return Tree(
        id,
        id,
        (
            segment(draw, Source.PROMPT, -1, 4),
            segment(draw, Source.POLICY, 0, 6, name=f"{id}.0"),
            segment(draw, Source.ENVIRONMENT, 1, 3),
            segment(draw, Source.POLICY, 2, 5, score=1.0, leaf=True, name=f"{id}.0"),
            segment(draw, Source.POLICY, 2, 2, score=0.0, leaf=True, name=f"{id}.1"),
            segment(draw, Source.POLICY, 0, 7, score=0.25, leaf=True, name=f"{id}.2"),
        ),
    )


def batch() -> list[Tree]:
    """Two fans and two dialogues."""
    return [
        fan("fan", [1.0, 0.0, 0.5, 0.0], seed=1),
        dialogue("talk", seed=2),
        fan("pair", [0.0, 1.0], seed=3, prompt=2),
        dialogue("chat", seed=4),
    ]
