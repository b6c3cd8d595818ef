"""The result of a run on one page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from laurel.chart import curve
from laurel.human_feedback_report import REPORT, FeedbackReport
from laurel.page import Page
from laurel.runs import Run, is_run

CURVES = ("reward", "loss", "reward_model/loss", "reward_model/accuracy")


def show(run: str | Path) -> Page:
    """The result of a run: its method, summary, evaluations, failures, curves. Also while it goes on.

    Of a directory of `laurel.rlhf`: its report.

    Raises:
        RunError: if it is none.
    """
    if not is_run(run) and (Path(run) / REPORT).is_file():
        return Page(Text(str(FeedbackReport.read(run))))
    parts: list[RenderableType] = []
    with Run.open(run) as opened:
        algorithm = opened.configuration.get("algorithm")
        if isinstance(algorithm, dict):
            parts.append(Text(f"{algorithm['name']}: {algorithm['title']}", style="bold"))
        parts.append(Text(str(opened.summary())))
        parts += [Text(event.text) for event in opened.events("calibration")[-1:]]
        for name in CURVES:
            points = [(step, metric.mean) for step, metric in opened.metric(name)]
            if len(points) > 1:
                parts.append(Text(curve(points, label=f"{name}, by step")))
    return Page(Group(*parts))
