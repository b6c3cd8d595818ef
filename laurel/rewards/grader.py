"""Grading a step: every rollout gets a score or a failure with its reason, and too many failures stop the run."""

from __future__ import annotations

import os
import re
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

from laurel.errors import ConfigurationError, RewardError
from laurel.metrics import Metric
from laurel.rewards.messages import request
from laurel.rewards.pool import Pool, Result
from laurel.rewards.reward import (
    Reward,
    Subject,
    as_result,
    evaluate,
    name_of,
    needs_rollout,
    needs_siblings,
    needs_worker,
    run_here,
    runs_in_process,
    scores_together,
    seconds_needed,
    subject_of,
    waits,
)
from laurel.rewards.verifiers import from_environment
from laurel.tasks.task import Task
from laurel.tree import LEFT_OUT, Ending, Failed, Outcome, Rollout, Score, Tree

MOST_WORKERS = 8
FORGIVEN_FAILURES = 2
START_SECONDS = 2.0
"""What a reward that keeps deadlines itself needs beyond them: a sandbox has to start."""

_NUMBER = re.compile(r"\d+(\.\d+)?")  # reasons that differ in a count or a line alone are of one kind


@dataclass(frozen=True)
class GradingSettings:
    """How rewards are computed, and how much may fail.

    Attributes:
        timeout_seconds: a grading process that has not answered after this long is killed. Time in the queue and the
            import of the reward do not count. Rewards marked `in_process` have no deadline.
        retries: how often a failed grading is tried again (in worker processes only).
        workers: grading processes; None: one per core, at most 8. 0: grade in this process, without deadlines, so that
            `breakpoint()` works inside of a reward.
        failure_fraction: the run stops when more than this part of a step's rollouts failed, in sampling or grading,
            beyond the first two.
        failures_in_a_row: the run stops when this many rollouts in a row failed, over the steps. Truncated ones that
            `truncated_reward` settles without asking the reward say nothing of it: they are passed over.
        truncated_reward: what a rollout that was cut off scores. "grade": what the reward says of the text there is,
            as for any other; "zero": 0 without asking; "leave_out": a failure outside of the budget, so that it enters
            no baseline and no gradient (overlong filtering).
    """

    timeout_seconds: float = 10.0
    retries: int = 1
    workers: int | None = None
    failure_fraction: float = 0.25
    failures_in_a_row: int = 32
    truncated_reward: Literal["grade", "zero", "leave_out"] = "grade"

    def __post_init__(self) -> None:
        wrong = {
            "timeout_seconds": not 0 < self.timeout_seconds < float("inf"),
            "retries": self.retries < 0,
            "workers": self.workers is not None and self.workers < 0,
            "failure_fraction": not 0 <= self.failure_fraction <= 1,
            "failures_in_a_row": self.failures_in_a_row < 1,
            "truncated_reward": self.truncated_reward not in ("grade", "zero", "leave_out"),
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise ConfigurationError(f"{name}={getattr(self, name)!r} makes no sense.", hint="see GradingSettings.")


@dataclass(frozen=True)
class Job:
    """One rollout to grade, and where its result belongs."""

    tree: int
    rollout: Rollout
    task: Task


class Grader:
    """Grades trees with one reward.

        with Grader(numeric_answer()) as grader:
            trees, metrics = grader.grade(trees, {task.id: task for task in tasks})

    Rewards marked `in_process` run here; all others in processes that are killed at their deadline. One that has a
    method `score_rollouts` is given all (task, rollout) of a step at once, and returns a result for each. The result
    depends on no timing, except for whether a deadline was met.

    Args:
        reward: a function of (task, text) or (task, rollout); None: the environment pays.
        settings: deadlines, retries and the failure budget.

    Raises:
        ConfigurationError: for a signature that Laurel cannot fill, or a deadline below that of the reward itself.
    """

    def __init__(self, reward: Reward | None, settings: GradingSettings | None = None) -> None:
        self.reward: Reward = from_environment() if reward is None else reward
        self.settings = settings or GradingSettings()
        subject_of(self.reward)
        self._whole = needs_rollout(self.reward)
        self._in_a_row = 0
        self._pool: Pool | None = None
        workers = self.settings.workers
        if workers is None:
            workers = min(MOST_WORKERS, os.cpu_count() or 1)
        self._check_deadline()
        if workers and not runs_in_process(self.reward):
            if needs_siblings(self.reward):
                raise ConfigurationError(
                    f"The reward {name_of(self.reward)} compares the answers to a prompt, and a part of it grades them "
                    "one by one in other processes.",
                    hint="mark that part with laurel.rewards.in_process, or set grading.workers to 0.",
                )
            self._pool = Pool(
                self.reward,
                workers=workers,
                timeout_seconds=self.settings.timeout_seconds,
                retries=self.settings.retries,
            )
            weakref.finalize(self, self._pool.close)
        elif needs_worker(self.reward):
            raise ConfigurationError(
                f"The reward {name_of(self.reward)} can hang or crash, so it cannot run in this process.",
                hint="set workers above 0.",
            )
        elif waits(self.reward):
            raise ConfigurationError(
                f"The reward {name_of(self.reward)} is asynchronous, but is to run in this process.",
                hint="set workers above 0, and do not mark it in_process.",
            )

    def _check_deadline(self) -> None:
        """A program that is too slow scores 0 by its own deadline; that of grading would make a failure of it."""
        needed = seconds_needed(self.reward)
        if needed and needed + START_SECONDS > self.settings.timeout_seconds:
            raise ConfigurationError(
                f"The reward {name_of(self.reward)} gives an answer {needed:g} s, and grading gives it up after "
                f"{self.settings.timeout_seconds:g} s.",
                hint=f"set timeout_seconds of grading to {needed + START_SECONDS:g} or more, or fewer seconds for the "
                "reward.",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the grading processes."""
        if self._pool is not None:
            self._pool.close()

    def state(self) -> dict[str, int]:
        """What later steps depend on, as JSON: how many rollouts in a row have failed so far."""
        return {"failures_in_a_row": self._in_a_row}

    def load_state(self, state: Mapping[str, int]) -> None:
        """Go on from `state()`."""
        self._in_a_row = state["failures_in_a_row"]

    def grade(self, trees: Sequence[Tree], tasks: Mapping[str, Task]) -> tuple[list[Tree], dict[str, Metric]]:
        """The same trees with a score or a failure on every leaf.

        A rollout that failed in sampling, or has its score already, is not graded.

        Args:
            tasks: by id, at least those of the trees.

        Returns:
            the trees, and the metrics `grading_failed` and `grading_retries` (per graded rollout) and `reward/<part>`
            (per scored rollout, for rewards with parts).

        Raises:
            RewardError: if the failure budget is spent (nothing of the step is kept), a tree's task is missing, or a
                rollout has not ended.
        """
        results: dict[tuple[int, int], Result] = {}
        jobs: list[Job] = []
        failures: dict[str, str] = {}
        unasked: set[str] = set()
        total = 0
        for index, tree in enumerate(trees):
            for rollout in tree.rollouts:
                outcome = _ended(rollout)
                total += 1
                if outcome.failed:
                    failures[rollout.id] = _why(outcome)
                elif outcome.score is None:
                    settled = self._without_grading(outcome)
                    if settled is None:
                        jobs.append(Job(index, rollout, _task_of(tree, tasks)))
                    else:
                        results[index, rollout.leaf] = settled
                        unasked.add(rollout.id)
        graded, retries = self._run(jobs, failures, total)
        for job, result in zip(jobs, graded, strict=True):
            results[job.tree, job.rollout.leaf] = result
        self._count_in_a_row([r.id for tree in trees for r in tree.rollouts if r.id not in unasked], failures)
        return _with_results(trees, results), _metrics(graded, retries)

    def _without_grading(self, outcome: Outcome) -> Result | None:
        if outcome.ending is not Ending.TRUNCATED or self.settings.truncated_reward == "grade":
            return None
        if self.settings.truncated_reward == "zero":
            return Score(0.0)
        return LEFT_OUT

    def _run(self, jobs: Sequence[Job], failures: dict[str, str], total: int) -> tuple[list[Result], int]:
        results: dict[int, Result] = {}

        def final(index: int, result: Result) -> None:
            results[index] = result
            if isinstance(result, Failed) and not result.left_out:
                failures[jobs[index].rollout.id] = result.reason
                self._spend(failures, total)

        self._spend(failures, total)
        subjects = [Subject(job.rollout.text, job.rollout if self._whole else None) for job in jobs]
        retries = 0
        if self._pool is not None:
            lines = [request(job.task, subject) for job, subject in zip(jobs, subjects, strict=True)]
            retries = self._pool.run(lines, final)
        elif (together := scores_together(self.reward)) is not None:
            for index, result in enumerate(together([(job.task, job.rollout) for job in jobs])):
                final(index, as_result(result))
        else:
            for index, (job, subject) in enumerate(zip(jobs, subjects, strict=True)):
                final(index, run_here(evaluate(self.reward, job.task, subject)))
        return [results[index] for index in range(len(jobs))], retries

    def _spend(self, failures: Mapping[str, str], total: int) -> None:
        if len(failures) > max(FORGIVEN_FAILURES, self.settings.failure_fraction * total):
            raise _budget_error(
                failures, f"of {total} in this step (the budget is {self.settings.failure_fraction:.0%})"
            )

    def _count_in_a_row(self, rollouts: Sequence[str], failures: Mapping[str, str]) -> None:
        for rollout in rollouts:
            self._in_a_row = self._in_a_row + 1 if rollout in failures else 0
            if self._in_a_row >= self.settings.failures_in_a_row:
                raise _budget_error(failures, f"in this step, and {self._in_a_row} in a row over the steps")


def _ended(rollout: Rollout) -> Outcome:
    if rollout.outcome is None:
        raise RewardError(f"Rollout {rollout.id} has not ended, so it cannot be graded.", hint="sample it first.")
    return rollout.outcome


def _why(outcome: Outcome) -> str:
    return outcome.score.reason if isinstance(outcome.score, Failed) else outcome.stop_reason


def _task_of(tree: Tree, tasks: Mapping[str, Task]) -> Task:
    if tree.task_id not in tasks:
        raise RewardError(f"Tree {tree.id} has the task {tree.task_id}, which is not given.", hint="pass its task too.")
    return tasks[tree.task_id]


def _with_results(trees: Sequence[Tree], results: Mapping[tuple[int, int], Result]) -> list[Tree]:
    graded: list[Tree] = []
    for index, tree in enumerate(trees):
        outcomes = {
            rollout.leaf: replace(_ended(rollout), score=results[index, rollout.leaf])
            for rollout in tree.rollouts
            if (index, rollout.leaf) in results
        }
        graded.append(tree.with_outcomes(outcomes) if outcomes else tree)
    return graded


def _metrics(results: Sequence[Result], retries: int) -> dict[str, Metric]:
    scores = [result for result in results if isinstance(result, Score)]
    metrics = {
        "grading_failed": Metric(sum(isinstance(r, Failed) and not r.left_out for r in results), len(results)),
        "grading_retries": Metric(retries, len(results)),
    }
    for name in sorted({name for score in scores for name in score.parts}):
        metrics[f"reward/{name}"] = Metric.of(score.parts[name] for score in scores if name in score.parts)
    return metrics


def _budget_error(failures: Mapping[str, str], among: str) -> RewardError:
    kinds = {rollout: _NUMBER.sub("#", reason) for rollout, reason in failures.items()}
    ((kind, times),) = Counter(kinds.values()).most_common(1)
    sample = next(rollout for rollout, own in kinds.items() if own == kind)
    return RewardError(
        f"{len(failures)} rollouts failed {among}. Commonest reason ({times} times, for example rollout {sample}): "
        f"{failures[sample].rstrip('.')}.",
        hint="mend what the reason names (`laurel check` tries a reward on the gold answers), or give more time or a "
        "larger budget in the grading settings; then resume the run.",
    )
