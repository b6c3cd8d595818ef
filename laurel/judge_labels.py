"""A judge labels pairs of answers, as a person does with `laurel label`: the same file, and the judge's bias beside it.

laurel judge answers.jsonl --judge my-judge --output labels.jsonl
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laurel.configuration import describe
from laurel.errors import ConfigurationError
from laurel.judge_bias import JudgeBias, bias_of
from laurel.memory import enough_memory
from laurel.policy import Comparison, PairJudge, Policy, load
from laurel.policy.fingerprint import fingerprint
from laurel.preferences import Labels, Query
from laurel.preferences.both_orders import AnyJudge, BothOrders, Disagreement, check_judge, in_both_orders
from laurel.preferences.judge_teacher import check_disagreement
from laurel.preferences.labelling import Labelled, questions_of, unanswered
from laurel.preferences.labels import RANKS, row_of
from laurel.tree import Failed

PAIRS_AT_ONCE = 64
"""Pairs that are judged, and then written down, together."""

DECIMALS = 5
"""Of log-odds in the file: what is beyond depends on which pairs were judged together."""


@dataclass(frozen=True)
class JudgedLabels:
    """What a judge said.

    Attributes:
        labelled: what stands in the file now.
        bias: of all pairs in it that this judge judged, also before; None: it judged none.
        failed: how many of them it could not judge; in the file they are skipped.
        reason: why it could not judge the first of those.
    """

    labelled: Labelled
    bias: JudgeBias | None
    failed: int
    reason: str

    def __str__(self) -> str:
        told = [str(self.labelled)] if self.bias is None else [str(self.labelled), str(self.bias)]
        if self.bias is None and self.failed:
            told.append(f"None of {self.failed} pairs could be judged, the first because {self.reason}")
            told.append("Mend that, and choose another output: what is skipped is not asked again.")
        return "\n".join(told)


def judge(
    questions: str | Path,
    output: str | Path,
    model: Policy | str | Path | AnyJudge,
    *,
    comparison: Comparison | None = None,
    disagreement: Disagreement = "average",
    limit: int | None = None,
    seed: int = 0,
    show: Callable[[str], None] | None = None,
) -> JudgedLabels:
    """Ask a judge which of two answers is better, each pair in both orders, and keep what it says.

        print(laurel.judge("answers.jsonl", "labels.jsonl", "my-judge"))

    The file is that of `laurel.label`: the sources and methods that read those labels read these. A line also keeps
    the log-odds of both orders, so that the bias to a place is that of all pairs of the file. What is labelled already
    is not asked again: after an interruption the same call goes on.

    Args:
        questions: as `laurel.label`.
        output: where the labels go; it grows, many labels at a time.
        model: who judges: a policy, the hub name or directory of one, or any judge that
            `laurel.preferences.in_both_orders` can ask.
        comparison: how a policy is asked; None: `Comparison()`.
        disagreement: what a pair is worth whose verdict turns with the order: "average", "tie" or "skip".
        limit: end after so many labels.
        seed: fixes which answer stands first in the file; nothing else depends on it.
        show: is told how far it is.

    Raises:
        ConfigurationError, PolicyError: the judge cannot be asked.
        TaskError: the questions cannot be read, the labels cannot be written, or another judge began the file.
    """
    check_disagreement(disagreement)
    asked, left_out = questions_of(Path(questions), seed)
    asker, name = _judge(model, comparison, disagreement)
    with Labels(output) as labels:
        before = len(labels.rows)
        labels.check_author("judge", name)
        open_ones = unanswered(asked, labels.rows)
        end = len(open_ones) if limit is None else min(limit, len(open_ones))
        for start in range(0, end, PAIRS_AT_ONCE):
            some = open_ones[start : min(start + PAIRS_AT_ONCE, end)]
            with enough_memory("judging pairs", "take a device with more memory, or shorter answers."):
                said = in_both_orders(asker, [(query.task, *query.answers) for query in some])
            for query, result in zip(some, said, strict=True):
                labels.append_row(_row(query, result, disagreement, name))
            if show is not None:
                show(f"{start + len(some)} of {end} pairs are judged")
        rows = list(labels.rows)
    ranks = [row["ranks"] for row in rows]
    counts = {verdict: ranks.count(rank) for verdict, rank in RANKS.items()}
    labelled = Labelled(Path(output), end, before, len(open_ones) - end, left_out, counts)
    return _summary(labelled, [row for row in rows if row.get("judge") == name])


def _judge(model: Any, comparison: Comparison | None, disagreement: str) -> tuple[AnyJudge, str]:
    """Who is asked, and a name for who that is and how."""
    weights = None
    if isinstance(model, str | Path):
        name = str(model)
        model = load(name)
        weights = fingerprint(name)
    if isinstance(model, Policy):
        model = PairJudge(model, comparison)
    elif comparison is not None:
        raise ConfigurationError("'comparison' would not be read: the judge is no policy.", hint="remove it.")
    check_judge(model)
    content = json.dumps([describe(model), weights, disagreement], sort_keys=True)
    return model, hashlib.sha256(content.encode()).hexdigest()[:16]


def _row(query: Query, result: BothOrders | Failed, disagreement: Disagreement, name: str) -> dict[str, Any]:
    if isinstance(result, Failed):
        return {**row_of(query, None), "judge": name, "failure": result.reason}
    odds = [round(result.forward, DECIMALS), round(result.backward, DECIMALS)]
    return {**row_of(query, result.verdict(disagreement)), "judge": name, "log_odds": odds}


def _summary(labelled: Labelled, rows: Sequence[Mapping[str, Any]]) -> JudgedLabels:
    failed = [row["failure"] for row in rows if "failure" in row]
    said: list[BothOrders | Failed] = [
        Failed(row["failure"]) if "failure" in row else BothOrders(*row["log_odds"]) for row in rows
    ]
    bias = bias_of([row["prompt"] for row in rows], said) if len(failed) < len(rows) else None
    return JudgedLabels(labelled, bias, len(failed), failed[0] if failed else "")
