"""Trees of every shape, to try a credit rule or a reduction on before an experiment does."""

from __future__ import annotations

import numpy as np

from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree


def random_tree(
    generator: np.random.Generator, *, depth: int = 4, fan: int = 3, failing: float = 0.2, id: str = "random"
) -> Tree:
    """A graded tree with fans at any depth, dialogues, segment rewards, and every ending.

    Args:
        depth: the most segments below the prompt on one path.
        fan: the most segments that continue one segment; prompts get at least one.
        failing: the chance of each rollout to be without a score, half of them by a failed grader.
    """
    segments = [Segment(Source.PROMPT, generator.integers(0, 50, 2), -1)]

    def grow(parent: int, room: int) -> None:
        width = int(generator.integers(1, fan + 1)) if generator.random() < 0.6 or parent == 0 else 1
        for _ in range(width):
            after_policy = segments[parent].source is Source.POLICY
            source = Source.ENVIRONMENT if after_policy and generator.random() < 0.5 else Source.POLICY
            leaf = room == 1 or bool(generator.random() < 0.3)
            tokens = generator.integers(0, 50, int(generator.integers(1, 5)))
            reward = float(generator.integers(-2, 3)) if generator.random() < 0.3 else 0.0
            outcome = _outcome(generator, failing) if leaf else None
            segments.append(Segment(source, tokens, parent, reward=reward, outcome=outcome))
            if not leaf:
                grow(len(segments) - 1, room - 1)

    grow(0, depth)
    return Tree.build(id, id, segments)


def _outcome(generator: np.random.Generator, failing: float) -> Outcome:
    chance = generator.random()
    if chance < failing / 2:
        return Outcome(Ending.FAILED, "broken", None)
    ending = Ending.TERMINATED if generator.random() < 0.7 else Ending.TRUNCATED
    if chance < failing:
        return Outcome(ending, "stop", Failed("grader crashed"))
    return Outcome(ending, "stop", Score(float(generator.integers(0, 4)) / 2))
