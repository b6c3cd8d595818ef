"""One evaluator for training, checkpoints and `laurel eval`: one sampling record, a mean and an honest interval."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from laurel.environments import Environment
from laurel.errors import ConfigurationError, RunError
from laurel.metrics import Metric
from laurel.rewards import Grader
from laurel.rollout import Job, LocalSampler
from laurel.tasks import Task
from laurel.tree import Ending, Failed, FloatArray, Outcome, Tree

# The 97.5 % quantile of the normal distribution: intervals cover 95 %.
NORMAL_QUANTILE = 1.959963984540054
# The same of Student's distribution with 1 to 28 degrees of freedom; from 30 values on, the bootstrap is used.
STUDENT_QUANTILES = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448,
    2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484,
)  # fmt: skip
BOOTSTRAP_RESAMPLES = 4000


@dataclass(frozen=True)
class Evaluation:
    """The mean score over tasks with its 95 % interval.

    Attributes:
        name: what was evaluated ("held_out").
        mean, low, high: mean over tasks of the mean reward of their samples, and the interval.
        tasks: how many tasks have at least one graded sample.
        failed: samples that could not be sampled or graded; they are in no mean.
        trees: everything that was drawn.
        left_out: truncated samples that the grading settings leave out; they are in no mean, and did not fail.
    """

    name: str
    mean: float
    low: float
    high: float
    tasks: int
    failed: int
    trees: tuple[Tree, ...]
    left_out: int = 0

    @property
    def metric(self) -> Metric:
        """The mean as a metric that can be merged and logged, counted in tasks."""
        return Metric(self.mean * self.tasks, self.tasks)

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        failed += f", {self.left_out} left out" if self.left_out else ""
        unsure = self.tasks > 0 and math.isnan(self.low)
        bounds = "(no interval from one value)" if unsure else f"[{self.low:.3f}, {self.high:.3f}]"
        return f"{self.name}: {self.mean:.3f} {bounds} over {self.tasks} tasks{failed}"


def evaluate(
    sampler: LocalSampler,
    grader: Grader,
    tasks: Sequence[Task],
    *,
    environment: Environment | None = None,
    samples: int = 1,
    name: str = "held_out",
    label: str = "evaluation",
    policy_version: int = 0,
) -> Evaluation:
    """Draw `samples` answers per task, grade them, and average.

    Args:
        label: prefix of the tree ids; with the sampler's seed it fixes every draw, so that the same label on the same
            weights gives the same answers. It names no step: `laurel eval` repeats what training measured, and two
            evaluations of a run differ by their weights alone.
    """
    jobs = [Job(f"{label}.{index}", task, samples, environment) for index, task in enumerate(tasks)]
    trees = sampler.collect(jobs, policy_version=policy_version)
    trees, _ = grader.grade(trees, {task.id: task for task in tasks})
    return averaged(name, trees)


def judged_again(name: str, evaluation: Evaluation, grader: Grader, tasks: Sequence[Task]) -> Evaluation:
    """The same answers under another reward; those that failed in sampling stay failed."""
    trees = [
        tree.with_outcomes({leaf: replace(outcome, score=None) for leaf, outcome in _judged_leaves(tree)})
        for tree in evaluation.trees
    ]
    graded, _ = grader.grade(trees, {task.id: task for task in tasks})
    return averaged(name, graded)


def _judged_leaves(tree: Tree) -> list[tuple[int, Outcome]]:
    outcomes = [(rollout.leaf, rollout.outcome) for rollout in tree.rollouts]
    return [(leaf, outcome) for leaf, outcome in outcomes if outcome and outcome.ending is not Ending.FAILED]


def averaged(name: str, trees: Sequence[Tree]) -> Evaluation:
    """The mean over trees of the mean reward of their rollouts, with its interval."""
    means, failed, left_out = [], 0, 0
    for tree in trees:
        rewards = [r.reward for r in tree.rollouts if r.outcome is not None and not r.outcome.failed]
        unused = sum(r.outcome is not None and r.outcome.left_out for r in tree.rollouts)
        left_out += unused
        failed += len(tree.rollouts) - len(rewards) - unused
        if rewards:
            means.append(float(np.mean(rewards)))
    mean, low, high = interval(np.array(means))
    return Evaluation(name, mean, low, high, len(means), failed, tuple(trees), left_out)


def check_output(path: Path) -> None:
    """See that answers can be written there, before they are drawn; nothing that is there is touched.

    Raises:
        ConfigurationError: if they cannot.
    """
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise ConfigurationError(f"The answers cannot be written to {path}.", hint="name a file in a folder of yours.")


def write_answers(path: Path, evaluation: Evaluation, tasks: Mapping[str, Task]) -> None:
    """Every answer of an evaluation as one JSON object per line: task, prompt, answer, reference, reward or failure.

    The prompt of a conversation is its messages, so that whoever reads the file lays them out for a policy again.

    Raises:
        RunError: if the file cannot be written.
    """
    try:
        _write(path, evaluation, tasks)
    except OSError as error:
        raise RunError(f"The answers cannot be written to {path}: {error.strerror}.", hint="make room.") from error


def _write(path: Path, evaluation: Evaluation, tasks: Mapping[str, Task]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for tree in evaluation.trees:
            task = tasks[tree.task_id]
            asked = tree.segments[0].text if isinstance(task.prompt, str) else [dict(said) for said in task.prompt]
            for rollout in tree.rollouts:
                outcome = rollout.outcome
                score = None if outcome is None else outcome.score
                row = {
                    "task": tree.task_id,
                    "prompt": asked,
                    "answer": rollout.text,
                    "reference": task.reference,
                    "reward": None if outcome is None or outcome.failed else rollout.reward,
                    "failure": score.reason if isinstance(score, Failed) else None,
                    "stop_reason": None if outcome is None else outcome.stop_reason,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def interval_text(metric: Metric) -> str:
    """A share of right answers with its Wilson interval: "97.3 % [95.2, 98.5]"."""
    mean, low, high = wilson(metric.sum, metric.count)
    return f"{mean:6.1%} [{low:.1%}, {high:.1%}] of {metric.count:.0f}"


def wilson(right: float, count: float) -> tuple[float, float, float]:
    """Mean and 95 % score interval of `right` successes in `count` trials (Wilson 1927).

    It stays inside of [0, 1] and is honest at 0 and 1, where mean +- 1.96 standard errors has no width.
    """
    mean = right / count
    squared = NORMAL_QUANTILE**2
    centre = (mean + squared / (2 * count)) / (1 + squared / count)
    spread = math.sqrt(mean * (1 - mean) / count + squared / (4 * count**2))
    half = NORMAL_QUANTILE / (1 + squared / count) * spread
    # At 0 and 1 the exact end is the mean itself, which rounding may miss.
    return mean, min(mean, max(0.0, centre - half)), max(mean, min(1.0, centre + half))


def interval(values: FloatArray) -> tuple[float, float, float]:
    """Mean and 95 % interval of independent values, one per task.

    - All values 0 or 1: `wilson`.
    - All values equal (or only one): the spread between tasks is unknown, so they give no width. Where they
      lie in [0, 1], `wilson` of their mean: no such values with this mean vary more than zeros and ones. Else NaN.
    - Fewer than 30 values: mean +- t s / sqrt(n), with Student's 97.5 % quantile t (n - 1 degrees of freedom) and s the
      deviation with n - 1; cut off at 0 and 1 where all values lie between.
    - Else a percentile bootstrap over tasks with a fixed seed.
    """
    count = len(values)
    if count == 0:
        return math.nan, math.nan, math.nan
    if np.isin(values, (0.0, 1.0)).all():
        return wilson(float(values.sum()), count)
    mean = float(values.mean())
    bounded = bool(((values >= 0) & (values <= 1)).all())
    if (values == values[0]).all():
        return wilson(float(values[0]) * count, count) if bounded else (float(values[0]), math.nan, math.nan)
    if count <= len(STUDENT_QUANTILES) + 1:
        half = STUDENT_QUANTILES[count - 2] * float(values.std(ddof=1)) / math.sqrt(count)
        low, high = mean - half, mean + half
        return (mean, max(0.0, low), min(1.0, high)) if bounded else (mean, low, high)
    draws = np.random.default_rng(0).integers(0, count, (BOOTSTRAP_RESAMPLES, count))
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    return mean, float(low), float(high)
