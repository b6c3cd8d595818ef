"""What came of reinforcement from human feedback: before, cloned, reinforced and best-of-n, by proxy and by gold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laurel.chart import curve
from laurel.errors import RunError
from laurel.over_optimisation import Estimate, Point, best_point
from laurel.picture import Line, Panel, draw

REPORT, PICTURE = "report.json", "report.svg"


@dataclass(frozen=True)
class FeedbackReport:
    """The result of `laurel.rlhf`; prints as a table, and is written as JSON and as a picture.

    Attributes:
        directory: where everything is.
        before: the policy that was cloned into.
        course: the policy from the clone ("step 0") to the end of reinforcement.
        best_of: the clone's best of n answers by the reward model, n rising.
        proxy_scale: mean and deviation of the reward model over the clone's answers: its own unit means nothing.
        reward_model: what the fit found on held-out comparisons, by name.
        left_out: which comparisons could not be used, in words; empty where all could.
    """

    directory: Path
    before: Point
    course: tuple[Point, ...]
    best_of: tuple[Point, ...]
    proxy_scale: tuple[float, float]
    reward_model: Mapping[str, float]
    left_out: str = ""

    @property
    def cloned(self) -> Point:
        return self.course[0]

    @property
    def reinforced(self) -> Point:
        return self.course[-1]

    @property
    def peak(self) -> Point:
        """The evaluation with the highest gold reward, the clone's included; being chosen, it is a little too high."""
        return best_point(self.course)

    @property
    def lost(self) -> float:
        """How much gold reward reinforcement lost again by going on after its peak."""
        return self.peak.gold.mean - self.reinforced.gold.mean

    def write(self) -> None:
        """Write report.json and report.svg.

        Raises:
            RunError: they cannot be written.
        """
        try:
            (self.directory / REPORT).write_text(json.dumps(self.described, indent=1) + "\n", encoding="utf-8")
            (self.directory / PICTURE).write_text(self.picture, encoding="utf-8")
        except OSError as error:
            raise RunError(f"The report cannot be written: {error}.", hint="make room.") from error

    @classmethod
    def read(cls, directory: str | Path) -> FeedbackReport:
        """The report that was written there.

        Raises:
            RunError: there is none, or it cannot be read.
        """
        try:
            kept = json.loads((Path(directory) / REPORT).read_text(encoding="utf-8"))
            return cls(
                Path(directory),
                Point.of(kept["before"]),
                tuple(map(Point.of, kept["course"])),
                tuple(map(Point.of, kept["best_of"])),
                (kept["proxy_scale"]["mean"], kept["proxy_scale"]["deviation"]),
                kept["reward_model"],
                kept["left_out"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{Path(directory) / REPORT} cannot be read: {error!r}.", hint="run laurel rlhf to its end."
            ) from error

    @property
    def described(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "before": self.before.described,
            "course": [point.described for point in self.course],
            "best_of": [point.described for point in self.best_of],
            "peak": self.peak.name,
            "lost_after_peak": self.lost,
            "proxy_scale": {"mean": self.proxy_scale[0], "deviation": self.proxy_scale[1]},
            "reward_model": dict(self.reward_model),
            "left_out": self.left_out,
        }

    @property
    def picture(self) -> str:
        """Gold and proxy over the distance from the clone, as SVG."""
        courses = [("reinforced", self.course, 1), ("best of n", self.best_of, 0)]
        gold = [_line(label, points, [point.gold for point in points], colour) for label, points, colour in courses]
        said = [_line(label, points, [self._scaled(p) for p in points], colour) for label, points, colour in courses]
        across = "square root of KL(policy, clone), nats"
        return draw(
            "What the reward model says, and what is true",
            [
                Panel("Gold reward, never trained on", across, "gold reward", gold),
                Panel("Reward model (proxy)", across, "deviations of the clone's answers", said),
            ],
        )

    def _scaled(self, point: Point) -> Estimate:
        mean, deviation = self.proxy_scale
        assert point.proxy is not None
        said = point.proxy
        return Estimate(*((value - mean) / deviation for value in (said.mean, said.low, said.high)))

    def __str__(self) -> str:
        best = max(self.best_of, key=lambda point: point.gold.mean)
        rows = [
            ("before", self.before),
            ("cloned", self.cloned),
            (f"{best.name}, from the clone", best),
            ("reinforced", self.reinforced),
        ]
        if self.peak not in (self.cloned, self.reinforced):
            rows.append((f"  at its best ({self.peak.name})", self.peak))
        table = [("", "gold reward", "reward model", "KL from the clone")]
        table += [(name, str(point.gold), _proxy(point), _nats(point)) for name, point in rows]
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        points = [(float(point.name.removeprefix("step ")), point.gold.mean) for point in self.course]
        fit = ", ".join(f"{name} {value:.3f}" for name, value in self.reward_model.items())
        return "\n".join(
            [
                *lines,
                "(means over held-out tasks with 95 % intervals; the gold reward was never trained on)",
                "",
                curve(points, height=5, label="gold reward while the reward model is maximised, by step"),
                "",
                f"reward model on held-out comparisons: {fit}" if fit else "reward model: no held-out comparisons",
                *([f"comparisons: {self.left_out}"] if self.left_out else []),
                self._verdict(),
                f"written: {self.directory / REPORT} and {PICTURE}",
            ]
        )

    def _verdict(self) -> str:
        end, peak = self.reinforced, self.peak
        if peak.name != end.name and end.gold.high < peak.gold.mean:
            said = [point.proxy.mean for point in (peak, end) if point.proxy is not None]
            rose = " to ".join(f"{value:.3f}" for value in said)
            return (
                f"over-optimised: since {peak.name} the reward model went from {rose}, and the gold reward lost "
                f"{self.lost:.3f}.\n"
                "A greater KL holds it, and so may comparisons of answers like those that it ends with."
            )
        return "not over-optimised: the gold reward ends within its interval of the highest that was seen."


def _line(label: str, points: Sequence[Point], values: Sequence[Estimate], colour: int) -> Line:
    return Line(
        label,
        [point.distance for point in points],
        [value.mean for value in values],
        [value.low for value in values],
        [value.high for value in values],
        colour=colour,
        marked=True,
    )


def _proxy(point: Point) -> str:
    return "" if point.proxy is None else str(point.proxy)


def _nats(point: Point) -> str:
    return "" if point.kl is None else f"{round(point.kl, 2) + 0.0:6.2f}"  # a zero has no sign
