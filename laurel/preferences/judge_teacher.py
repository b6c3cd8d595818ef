"""A judge in a teacher's place: asked in both orders, so that it goes by the answers and not by their places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from laurel.errors import ConfigurationError, RewardError
from laurel.metrics import Metric
from laurel.preferences.both_orders import AnyJudge, BothOrders, Disagreement, check_judge, in_both_orders
from laurel.preferences.teachers import Query


@dataclass
class JudgeTeacher:
    """Says what a judge prefers, for `laurel.LabelledReward`, `laurel.preferences.taught` or any other teacher's place.

        laurel.LabelledReward(JudgeTeacher(laurel.policy.PairJudge(laurel.policy.load("my-judge"))), labels=200)

    It draws nothing: the same question gets the same answer. A run records its bias beside the labels, as
    `labels/said_first`, `labels/position` and `labels/flips` (see `BothOrders`).

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
    _said: list[BothOrders] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_judge(self.judge)
        check_disagreement(self.disagreement)

    @property
    def description(self) -> dict[str, Any]:
        """What a run records of it."""
        return {"type": type(self).__name__, "judge": self.judge, "disagreement": self.disagreement}

    def state(self) -> dict[str, Any]:
        """Nothing that later answers depend on; a run that goes on asks again, and measures the same."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`: nothing was asked since."""
        self._said.clear()

    def metrics(self) -> dict[str, Metric]:
        """The bias of what it said since this was last called."""
        said, self._said = self._said, []
        if not said:
            return {}
        return {
            "labels/said_first": Metric.of([each.said_first for each in said]),
            "labels/position": Metric.of([each.position for each in said]),
            "labels/flips": Metric.of([float(each.flips) for each in said]),
        }

    def __call__(self, query: Query) -> float | None:
        said = in_both_orders(self.judge, [(query.task, *query.answers)])[0]
        if isinstance(said, BothOrders):
            self._said.append(said)
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
