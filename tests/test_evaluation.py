"""Means and intervals by hand, and against the definition of the Wilson interval."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from laurel.evaluation import (
    NORMAL_QUANTILE,
    STUDENT_QUANTILES,
    Evaluation,
    interval,
    interval_text,
    wilson,
    write_answers,
)
from laurel.metrics import Metric
from laurel.tasks import Message, Prompt, Task
from laurel.tree import Ending, Outcome, Score, Segment, Source, Tree


@pytest.mark.parametrize(("right", "count"), [(0, 10), (1, 10), (5, 10), (10, 10), (380, 400), (1, 1)])
def test_the_ends_of_wilsons_interval_are_1_96_of_their_own_deviations_away(right: int, count: int) -> None:
    mean, low, high = wilson(right, count)
    assert mean == right / count
    assert 0 <= low <= mean <= high <= 1
    # By definition each end p solves |mean - p| = z sqrt(p (1 - p) / n), unless it is 0 or 1.
    for end in (low, high):
        if 1e-12 < end < 1 - 1e-12:
            assert abs(mean - end) == pytest.approx(NORMAL_QUANTILE * math.sqrt(end * (1 - end) / count))


def test_wilsons_interval_has_width_where_all_are_wrong() -> None:
    # 0 of 10: high = z^2 / (n + z^2) = 3.8415 / 13.8415
    assert wilson(0, 10)[1:] == pytest.approx((0.0, 0.27753), abs=1e-5)


def test_the_interval_of_shares_is_wilsons_and_of_other_values_a_bootstrap() -> None:
    assert interval(np.array([1.0, 0.0, 1.0, 1.0])) == wilson(3, 4)
    values = np.random.default_rng(1).normal(2.0, 0.5, 200)
    mean, low, high = interval(values)
    assert mean == pytest.approx(values.mean())
    half = NORMAL_QUANTILE * values.std() / math.sqrt(200)
    assert (mean - low, high - mean) == pytest.approx((half, half), rel=0.1)
    assert interval(values) == (mean, low, high)


def test_nothing_measured_has_no_mean() -> None:
    assert all(map(math.isnan, interval(np.array([]))))


def test_the_text_of_a_share() -> None:
    assert interval_text(Metric(380, 400)) == " 95.0% [92.4%, 96.7%] of 400"


def test_the_quantiles_are_students() -> None:
    for freedom, quantile in enumerate(STUDENT_QUANTILES, start=1):
        # The density over x = sqrt(f) tan(a) is proportional to cos(a)^(f - 1), by which the mass is integrated.
        angles = np.linspace(-math.pi / 2, math.pi / 2, 200_001)
        weights = np.cos(angles) ** (freedom - 1)
        below = angles <= math.atan(quantile / math.sqrt(freedom))
        assert weights[below].sum() / weights.sum() == pytest.approx(0.975, abs=2e-5)


def test_few_values_have_students_interval() -> None:
    # mean 3, s = sqrt(2), n = 2: 3 +- 12.7062 * sqrt(2) / sqrt(2)
    assert interval(np.array([2.0, 4.0])) == pytest.approx((3.0, -9.7062, 15.7062))
    assert interval(np.array([0.25, 0.75])) == (0.5, 0.0, 1.0)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_equal_values_have_no_interval_of_no_width(count: int) -> None:
    assert interval(np.full(count, 0.5)) == pytest.approx(wilson(0.5 * count, count))
    mean, low, high = interval(np.full(count, 2.0))
    assert mean == 2.0 and math.isnan(low) and math.isnan(high)
    text = str(Evaluation("held_out", mean, low, high, count, 0, ()))
    assert text == f"held_out: 2.000 (no interval from one value) over {count} tasks"


@pytest.mark.parametrize(
    "prompt", ["2+2?", (Message(role="system", content="Be brief."), Message(role="user", content="2+2?"))]
)
def test_answers_are_written_with_the_prompt_that_was_asked(prompt: Prompt, tmp_path: Path) -> None:
    """Of a conversation its messages: what a template made of them cannot be laid out for another policy."""
    outcome = Outcome(Ending.TERMINATED, "stop", Score(1.0))
    laid_out = prompt if isinstance(prompt, str) else "system\nBe brief.\nuser\n2+2?\nassistant\n"
    segments = (
        Segment(Source.PROMPT, [1], -1, text=laid_out),
        Segment(Source.POLICY, [2], 0, text="4", outcome=outcome),
    )
    found = Evaluation("held_out", 1.0, 0.0, 1.0, 1, 0, (Tree("t", "a", segments),))
    write_answers(tmp_path / "answers.jsonl", found, {"a": Task("a", prompt, "4")})
    row = json.loads((tmp_path / "answers.jsonl").read_text())
    assert row["prompt"] == (prompt if isinstance(prompt, str) else list(prompt))
    assert (row["answer"], row["reference"], row["reward"], row["failure"]) == ("4", "4", 1.0, None)
