"""How far a judge of pairs can be trusted: does it go by the answers, or by which of them stands first?"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from laurel.errors import RewardError
from laurel.evaluation import interval
from laurel.metrics import Metric
from laurel.preferences import Preference, Query
from laurel.preferences.both_orders import AnyJudge, BothOrders, check_judge, in_both_orders
from laurel.tasks import Prompt, Task
from laurel.tree import Failed

Bounded = tuple[float, float, float]
"""A mean with the ends of its 95 % interval."""


@dataclass(frozen=True)
class JudgeBias:
    """What came of asking a judge about pairs in both orders. Every number stands with its 95 % interval.

    The pairs of a prompt are alike, so each prompt counts once, with the mean of its pairs, and the intervals are over
    prompts (`laurel.evaluation.interval`).

    Attributes:
        pairs, prompts: how many were judged.
        failed: pairs that could not be judged, which are in no mean.
        first: the mean of P(says first), over both orders, less 1/2: above 0 it favours the first place. Between -1/2
            and 1/2.
        position: the same in log-odds, (l(a, b) + l(b, a)) / 2: what a judge adds to the first place, if it adds the
            same to all.
        flips: the share of pairs whose verdict turns with the order.
        right: the share of pairs with a known better side of which the mean of both orders says so (undecided: one
            half); None: of no pair it is known.
        reason: why the first of the failed pairs failed.
    """

    pairs: int
    prompts: int
    failed: int
    first: Bounded
    position: Bounded
    flips: Bounded
    right: Bounded | None = None
    reason: str = ""

    @property
    def metrics(self) -> dict[str, Metric]:
        """The means as metrics, counted in prompts."""
        values = {"judge/first": self.first, "judge/position": self.position, "judge/flips": self.flips}
        if self.right is not None:
            values["judge/right"] = self.right
        return {name: Metric(mean * self.prompts, self.prompts) for name, (mean, _, _) in values.items()}

    def __str__(self) -> str:
        lines = [
            f"{self.pairs} pairs of {self.prompts} prompts, each in both orders",
            f"says the first more often than half: {_text(self.first, '+.3f')}",
            f"log-odds for the first place: {_text(self.position, '+.3f')}",
            f"verdict turns with the order: {_text(self.flips, '.3f')}",
        ]
        if self.right is not None:
            lines.append(f"right about the known ones: {_text(self.right, '.3f')}")
        if self.failed:
            lines.append(f"{self.failed} pairs could not be judged, the first because {self.reason}")
        return "\n".join(lines)


def measure_judge(judge: AnyJudge, pairs: Iterable[Query | Preference]) -> JudgeBias:
    """Ask a judge about every pair in both orders, and say how much the order decides.

        laurel.measure_judge(PairJudge(laurel.policy.load("my-judge")), laurel.preferences.pairs("pairs.jsonl"))

    Args:
        judge: a function of (task, first, second) -> the probability that the first is better, or an object with
            `log_odds`, such as `laurel.policy.PairJudge`.
        pairs: queries, or preferences, every two answers of which are a pair; what their scores say is held against
            the judge's verdict.

    Raises:
        ConfigurationError: the judge cannot be asked.
        RewardError: there is no pair, or none could be judged.
    """
    check_judge(judge)
    asked: list[tuple[Task, str, str]] = []
    better: list[float | None] = []
    for pair in pairs:
        for task, answers, known in _pairs(pair):
            asked.append((task, *answers))
            better.append(known)
    said = in_both_orders(judge, asked)
    return bias_of([task.prompt for task, _, _ in asked], said, better)


def bias_of(
    prompts: Sequence[Prompt], said: Sequence[BothOrders | Failed], better: Sequence[float | None] | None = None
) -> JudgeBias:
    """The measures of what was said.

    Args:
        prompts: of each pair.
        said: of each pair, in both orders.
        better: for each pair 1 where the first is known to be better, 0 where the second is, None where neither is.

    Raises:
        RewardError: there is no pair, or none was judged.
    """
    failed = [each for each in said if isinstance(each, Failed)]
    known = better or [None] * len(said)
    judged = [
        (json.dumps(prompt), each, truth)
        for prompt, each, truth in zip(prompts, said, known, strict=True)
        if isinstance(each, BothOrders)
    ]
    if not judged:
        why = f": {failed[0].reason}" if failed else ", as there is none"
        raise RewardError(f"No pair could be judged{why}.", hint="mend what it names, or give pairs of answers.")
    right = [(prompt, 1 - abs(truth - (each.verdict() or 0.0))) for prompt, each, truth in judged if truth is not None]
    mean, low, high = _over_prompts([(prompt, each.said_first) for prompt, each, _ in judged])
    return JudgeBias(
        pairs=len(judged),
        prompts=len({prompt for prompt, _, _ in judged}),
        failed=len(failed),
        first=(mean - 0.5, low - 0.5, high - 0.5),
        position=_over_prompts([(prompt, each.position) for prompt, each, _ in judged]),
        flips=_over_prompts([(prompt, float(each.flips)) for prompt, each, _ in judged]),
        right=_over_prompts(right) if right else None,
        reason=failed[0].reason if failed else "",
    )


def _pairs(pair: Query | Preference) -> Iterable[tuple[Task, tuple[str, str], float | None]]:
    if isinstance(pair, Query):
        yield pair.task, pair.answers, None
        return
    for (one, score), (other, beside) in itertools.combinations(zip(pair.answers, pair.scores, strict=True), 2):
        yield pair, (one, other), None if score == beside else float(score > beside)


def _over_prompts(values: Sequence[tuple[str, float]]) -> Bounded:
    """The mean over prompts of the means of each, with its interval."""
    by_prompt: Mapping[str, list[float]] = {prompt: [] for prompt, _ in values}
    for prompt, value in values:
        by_prompt[prompt].append(value)
    return interval(np.array([math.fsum(each) / len(each) for each in by_prompt.values()]))


def _text(bounded: Bounded, form: str) -> str:
    mean, low, high = (format(value, form) for value in bounded)
    return f"{mean} (no interval from one value)" if math.isnan(bounded[1]) else f"{mean} [{low}, {high}]"
