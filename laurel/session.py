"""What one run has in memory: how it is evaluated, checkpointed and restored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from laurel.checkpoint_checks import check_finite, newest_checkpoint, save_checkpoint
from laurel.collapse import CollapseWatch, stopped
from laurel.environments import Environment
from laurel.evaluation import Evaluation, evaluate, judged_again
from laurel.experience import Gather, KeepsState
from laurel.judged_evaluation import evaluate_judged
from laurel.learner import Learner
from laurel.memory import enough_memory
from laurel.metrics import Metric
from laurel.policy import Policy, Reference
from laurel.progress import ProgressView
from laurel.rewards import Grader, learning
from laurel.rollout import LocalSampler
from laurel.runs import Run, Trackers
from laurel.tasks import Cursor, TaskSet
from laurel.tree import Tree


@dataclass
class Session:
    """The live parts of a run. `checkpoint` and `restore` name everything that later steps depend on.

    The sampler has no state: every draw follows from the run's seed, the rollout's name and the position. Nor has the
    environment: a rollout lives within one step. Of the grader it is the failures in a row, and what its reward has
    learned.
    """

    policy: Policy
    reference: Reference | None
    learner: Learner
    gather: Gather
    cursor: Cursor
    evaluation_sampler: LocalSampler
    grader: Grader | None
    held_out_grader: Grader | None
    watched: Grader | None
    environment: Environment | None
    held_out: TaskSet | None
    evaluation_samples: int
    run: Run
    trackers: Trackers
    progress: ProgressView
    watch: CollapseWatch | None = None
    warned: list[str] = field(default_factory=list)

    def evaluate(self, step: int) -> Evaluation | None:
        """Score the held-out tasks under the current weights, also by the watched reward, and record every answer.

        Without a reward they are answers that were judged before, which the method itself judges again.
        """
        judge = self.held_out_grader or self.grader
        if self.held_out is None:
            return None
        if judge is None:
            return self._evaluate_judged(step, self.held_out)
        with enough_memory(f"evaluating after step {step}", "lower max_live_rows (fewer rollouts at once)."):
            evaluation = evaluate(
                self.evaluation_sampler,
                judge,
                self.held_out,
                environment=self.environment,
                samples=self.evaluation_samples,
                policy_version=self.learner.version,
            )
        self._record(step, evaluation)
        if self.watch is not None:
            self.warn(step, texts := self.watch.evaluated(step, evaluation))
            for text in texts:
                self.run.record_event("alarm", text, step=step)
        if self.watched is not None:
            self._record(step, judged_again("watched", evaluation, self.watched, self.held_out))
        return evaluation

    def _evaluate_judged(self, step: int, held_out: TaskSet) -> Evaluation:
        with enough_memory(f"evaluating after step {step}", "lower tokens_per_microbatch (fewer tokens in one pass)."):
            accuracy, *others = evaluate_judged(self.learner, held_out)
        for evaluation in (accuracy, *others):
            self._record(step, evaluation)
        return accuracy

    def _record(self, step: int, evaluation: Evaluation) -> None:
        self.run.record_evaluation(step, evaluation.name, evaluation.metric, evaluation.trees)
        self.trackers.log(step, {evaluation.name: evaluation.metric})
        self.progress.evaluated(step, evaluation)

    def look(self, trees: Sequence[Tree], metrics: dict[str, Metric]) -> tuple[dict[str, Metric], list[str]]:
        """The metrics of a step with those of the collapse alarm, and what it says."""
        if self.watch is None:
            return metrics, []
        found, texts = self.watch.step(trees, metrics)
        return {**metrics, **found}, texts

    def warn(self, step: int, texts: Sequence[str]) -> None:
        """Show what the alarm said, and keep it in mind until `heed`."""
        self.warned += texts
        for text in texts:
            self.progress.told(f"ALARM after step {step}: {text}")

    @property
    def ends(self) -> bool:
        """Whether the alarm ends the run after this step."""
        return bool(self.warned) and self.watch is not None and self.watch.stops

    def heed(self, step: int) -> None:
        """End the run where the alarm does that.

        Raises:
            RunError: saying why.
        """
        if self.ends:
            raise stopped(step, self.warned)
        self.warned.clear()

    def checkpoint(self, step: int) -> None:
        """Write everything that the steps after `step` depend on.

        Raises:
            LearnerError: if a weight is not finite.
        """
        check_finite(step, self.policy.tensors(), "the policy")
        moments, counters = self.learner.state()
        groups = {"policy": self.policy.tensors(), "optimiser": moments}
        if self.reference is not None:
            groups["reference"] = self.reference.tensors()
        state: dict[str, Any] = {"learner": counters, "cursor": self.cursor.state()}
        if self.grader is not None:
            state["grader"] = self.grader.state()
            if (reward := learning(self.grader.reward)) is not None:
                groups["reward"], state["reward"] = reward.state()
        if self.watch is not None:
            state["alarm"] = self.watch.state()
        if isinstance(self.gather, KeepsState):
            groups["experience"], state["experience"] = self.gather.state()
        save_checkpoint(self.run, self.policy, step, groups, state)

    def restore(self) -> int:
        """Load the newest whole checkpoint, if there is one, and return the number of steps that are done."""
        checkpoint = newest_checkpoint(self.run, self.policy)
        if checkpoint is None:
            return 0
        self.policy.load_tensors(checkpoint.tensors["policy"])
        if self.reference is not None:
            self.reference.load_tensors(checkpoint.tensors["reference"])
        self.learner.load_state(checkpoint.tensors["optimiser"], checkpoint.state["learner"])
        self.cursor.load_state(checkpoint.state["cursor"])
        if self.grader is not None and "grader" in checkpoint.state:  # older checkpoints do without
            self.grader.load_state(checkpoint.state["grader"])
        if self.grader is not None and (reward := learning(self.grader.reward)) is not None:
            reward.load_state(checkpoint.tensors["reward"], checkpoint.state["reward"])
        if self.watch is not None and "alarm" in checkpoint.state:  # it may have been set after the checkpoint
            self.watch.load_state(checkpoint.state["alarm"])
        if isinstance(self.gather, KeepsState):
            self.gather.load_state(checkpoint.tensors["experience"], checkpoint.state["experience"])
        return checkpoint.step
