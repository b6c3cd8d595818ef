"""A judge in a teacher's place: asked in both orders, so that it goes by the answers and not by their places."""

from __future__ import annotations

from dataclasses import dataclass

from laurel.errors import ConfigurationError, RewardError
from laurel.preferences.both_orders import AnyJudge, BothOrders, Disagreement, check_judge, in_both_orders
from laurel.preferences.teachers import Query


@dataclass(frozen=True)
class JudgeTeacher:
    """Says what a judge prefers, for `laurel.LabelledReward`, `laurel.preferences.taught` or any other teacher's place.

        laurel.LabelledReward(JudgeTeacher(laurel.policy.PairJudge(laurel.policy.load("my-judge"))), labels=200)

    It has no state and draws nothing: the same question gets the same answer.

    Attributes:
        judge: see `laurel.preferences.in_both_orders`.
        disagreement: what is said of a pair whose verdict turns with the order: "average" what the mean of both
            log-odds says, "tie", or "skip".

    Raises:
        ConfigurationError: the judge cannot be asked, or there is no such way to disagree.
        RewardError (when called): it failed on a question; a failure is no verdict.
    """

    judge: AnyJudge
    disagreement: Disagreement = "average"

    def __post_init__(self) -> None:
        check_judge(self.judge)
        check_disagreement(self.disagreement)

    def __call__(self, query: Query) -> float | None:
        said = in_both_orders(self.judge, [(query.task, *query.answers)])[0]
        if isinstance(said, BothOrders):
            return said.verdict(self.disagreement)
        raise RewardError(
            f"The judge failed on task {query.task.id}: {said.reason}.",
            hint="mend what it names; a run goes on with --resume, in Python resume=True.",
        )


def check_disagreement(disagreement: object) -> None:
    """Whether a pair whose verdict turns with the order can be dealt with so.

    Raises:
        ConfigurationError: it cannot.
    """
    if disagreement not in ("average", "tie", "skip"):
        raise ConfigurationError(f"disagreement={disagreement!r} is none.", hint="use average, tie or skip.")
