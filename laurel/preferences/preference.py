"""A prompt with answers that somebody compared or judged, in one form for pairs, rankings, ratings and thumbs.

    pair      chosen "4", rejected "5"                    answers ("4", "5")        scores (1, 0)
    tie       answers ["4", "four"], ranks [1, 1]         answers ("4", "four")     scores (0.5, 0.5)
    ranking   answers ["a", "b", "c"], ranks [2, 1, 2]    answers ("a", "b", "c")   scores (0.5, 2, 0.5)
    rating    answers ["a", "b"], ratings [3, 5]          answers ("a", "b")        scores (3, 5)
    thumb     completion "4", label true                  answers ("4",)            scores (1,)
    steps     completions ["a", "b"], labels [1, 0.2]     answers ("a\\nb",)         scores (0.2,): `judged_steps`

A greater score is a better answer. Methods that compare read the order alone, and equal scores make no pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from laurel.errors import TaskError
from laurel.tasks import Task


class Kind(StrEnum):
    """What was asked of whoever judged."""

    PAIR = "pair"
    RANKING = "ranking"
    RATING = "rating"
    THUMB = "thumb"
    STEPS = "steps"


@dataclass(frozen=True)
class Preference(Task):
    """A task whose answers are there already, and judged.

    `reference` is the best answer where one is best (so that `clone` learns from the same set), else None.

    Attributes:
        answers: what was judged, distinct and not blank.
        scores: one number per answer; the greater, the better.
        kind: what the scores mean.
        row: the number of the row that it was read from; None: from none.

    Raises:
        TaskError: there is no answer, or not one finite score for each.
    """

    answers: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    kind: Kind = Kind.PAIR
    row: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.answers or len(self.answers) != len(self.scores):
            raise TaskError(
                f"Task {self.id} has {len(self.answers)} answers and {len(self.scores)} scores.",
                hint="give at least one answer, and one score for each.",
            )
        if any(score != score or abs(score) == float("inf") for score in self.scores):
            raise TaskError(f"Task {self.id}: the scores {self.scores} are not all finite.", hint="leave the row out.")

    @property
    def content(self) -> list[Any]:
        """What the digest of a task set is made of: the task, its answers, and how they were judged."""
        return [*super().content, list(self.answers), list(self.scores), self.kind.value]

    @property
    def distinguishes(self) -> bool:
        """Whether some answer is better than another."""
        return len(set(self.scores)) > 1


def best(answers: Sequence[str], scores: Sequence[float], kind: Kind) -> str | None:
    """The one answer above all others; None on a tie at the top, and for a thumb that points down."""
    top = max(scores)
    winners = [answer for answer, score in zip(answers, scores, strict=True) if score == top]
    down = kind is Kind.THUMB and top == 0
    return winners[0] if len(winners) == 1 and not down else None


def scores_of_ranks(ranks: Sequence[float]) -> tuple[float, ...]:
    """How many others each answer beats, a tie counting one half: the Borda count. Rank 1 is best; equal ranks tie."""
    return tuple(sum(1.0 if other > own else 0.5 if other == own else 0.0 for other in ranks) - 0.5 for own in ranks)
