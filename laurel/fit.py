"""What a fit of reward models has in memory: its steps, how it is judged, checkpointed, restored and saved."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from laurel.algorithms import Credit
from laurel.checkpoint_checks import check_finite, newest_checkpoint, save_checkpoint
from laurel.credit import steps_of
from laurel.errors import PolicyError
from laurel.evaluation import Evaluation, interval
from laurel.judged import comparison, judged
from laurel.learner import RewardLearner, RewardReport, reported
from laurel.learner.reward_models import judged_places
from laurel.memory import enough_memory
from laurel.metrics import Metric, merge
from laurel.objectives import RewardObjective, reads_steps
from laurel.policy import Policy, disagreement, export_reward_models
from laurel.policy.saved_reward import MODEL
from laurel.preferences import Calibration
from laurel.progress import ProgressView
from laurel.runs import Run, Trackers, phase
from laurel.tasks import Cursor, TaskSet
from laurel.tree import STEP_PART, FloatArray, Outcome, Score, Tree

SAID = "reward_model"
"""The part of a judged answer's score that holds what was said of it; "/step n" follows for its steps."""

LESS = "lower tokens_per_microbatch (fewer tokens in one pass), fit fewer members, or an adapter (policy.lora)."


@dataclass(frozen=True)
class Member:
    """One reward model while it is fitted, and its way through its share of the tasks."""

    learner: RewardLearner
    cursor: Cursor


@dataclass(frozen=True)
class Fit:
    """The live parts of a fit. `checkpoint` and `restore` name everything that later steps depend on."""

    policy: Policy
    members: Sequence[Member]
    objective: RewardObjective
    tasks: TaskSet
    held_out: TaskSet | None
    prompts: int
    run: Run
    trackers: Trackers
    progress: ProgressView

    def go_on(self, steps: int, evaluate_every: int, checkpoint_every: int) -> None:
        """From the newest checkpoint to the last step."""
        done = self.restore()
        if done == 0:
            self.evaluate(0)
        for step in range(done + 1, steps + 1):
            self.step(step)
            if step % evaluate_every == 0 or step == steps:
                self.evaluate(step)
            if step % checkpoint_every == 0 or step == steps:
                self.checkpoint(step)

    def step(self, step: int) -> None:
        """One optimiser step of every member, each on its own next prompts."""
        started = time.perf_counter()
        drawn = [
            self._laid_out(member.cursor.next(self.prompts), f"{step}.{number}")
            for number, member in enumerate(self.members)
        ]
        gathered = time.perf_counter()
        phase("before_update", step)
        with enough_memory(f"fitting in step {step}", LESS):
            metrics = merge(member.learner.update(trees) for member, trees in zip(self.members, drawn, strict=True))
        phase("after_update", step)
        timings = {"gather_seconds": gathered - started, "learn_seconds": time.perf_counter() - gathered}
        trees = [tree for some in drawn for tree in some]
        metrics["distinct_tokens"] = Metric(float(sum(len(tree.flat) for tree in trees)), 1.0)
        self.run.record_step(step, trees, [_no_credit(tree) for tree in trees], metrics, timings)
        self.trackers.log(step, metrics, timings)
        self.progress.step(step, metrics, timings)

    def evaluate(self, step: int) -> None:
        """All members together on the held-out answers; every answer is recorded with what was said of it."""
        if self.held_out is None:
            return
        trees = self._laid_out(self.held_out, "evaluation")
        with enough_memory(f"evaluating after step {step}", LESS):
            said = [member.learner.rewards(trees) for member in self.members]
        rewards = np.stack([np.concatenate(one) for one in said])
        centred = rewards - rewards.mean(axis=1, keepdims=True)
        sizes = np.cumsum([len(one) for one in said[0]])[:-1].tolist()
        own = torch.stack([member.learner.own.detach() for member in self.members]).mean(0)
        report = reported(self.objective, own, trees, np.split(rewards.mean(axis=0), sizes))
        prompts = len(report.by_prompt)
        found = {
            "accuracy": Metric.of(report.by_prompt),
            "calibration_error": Metric(report.calibration.error * prompts, float(prompts)),
            "loss": report.loss,
        }
        if len(self.members) > 1:
            found["disagreement"] = Metric.of(disagreement(centred))
        for name, metric in found.items():
            kept = _with_rewards(self.objective, trees, rewards, sizes) if name == "accuracy" else ()
            self.run.record_evaluation(step, name, metric, kept)
        self.run.record_event("calibration", calibration_text(report.calibration), step=step)
        self.trackers.log(step, found)
        self.progress.evaluated(step, evaluation(report))

    def checkpoint(self, step: int) -> None:
        """Write everything that the steps after `step` depend on.

        Raises:
            LearnerError: if a weight is not finite.
        """
        groups: dict[str, Mapping[str, torch.Tensor]] = {}
        state: dict[str, Any] = {"members": []}
        for number, member in enumerate(self.members):
            tensors, counters = member.learner.state()
            check_finite(step, tensors, f"reward model {number}")
            groups[f"member_{number}"] = tensors
            state["members"].append({"learner": counters, "cursor": member.cursor.state()})
        save_checkpoint(self.run, self.policy, step, groups, state)

    def restore(self) -> int:
        """Load the newest whole checkpoint, if there is one, and return the number of steps that are done."""
        checkpoint = newest_checkpoint(self.run, self.policy)
        if checkpoint is None:
            return 0
        for number, (member, state) in enumerate(zip(self.members, checkpoint.state["members"], strict=True)):
            member.learner.load_state(checkpoint.tensors[f"member_{number}"], state["learner"])
            member.cursor.load_state(state["cursor"])
        return checkpoint.step

    def export(self) -> None:
        """Save what was fitted below the run; where the architecture has no classifier, an event says so."""
        models = [member.learner.model for member in self.members]
        trees = self._laid_out(self.held_out or self.tasks, "offsets")
        offsets = [float(np.mean(np.concatenate(member.learner.rewards(trees)))) for member in self.members]
        try:
            export_reward_models(models, self.run.directory / MODEL, offsets=offsets)
        except PolicyError as error:
            self.run.record_event("warning", f"the reward model was not saved: {error.message}")

    def _laid_out(self, tasks: Sequence[Any], prefix: str) -> list[Tree]:
        trunk = self.members[0].learner.model.trunk
        return [comparison(trunk, judged(task), f"{prefix}.{index}") for index, task in enumerate(tasks)]


def evaluation(report: RewardReport) -> Evaluation:
    """The accuracy over prompts with its interval, as progress shows it."""
    values = np.array(report.by_prompt)
    return Evaluation("accuracy", *interval(values), len(values), 0, ())


def calibration_text(found: Calibration) -> str:
    """Bin by bin: how sure it was on average, and how often that came true."""
    bins = zip(found.edges, found.edges[1:], found.counts, found.confidence, found.accuracy, strict=False)
    parts = [
        f"{low:.0%} to {high:.0%}: {count} said {sure:.1%}, right {right:.1%}"
        for low, high, count, sure, right in bins
        if count
    ]
    return f"expected calibration error {found.error:.3f}; " + "; ".join(parts)


def _no_credit(tree: Tree) -> Credit:
    """No token is predicted, so none carries loss."""
    return Credit(np.zeros(len(tree.flat)), np.zeros(len(tree.flat), np.bool_))


def _with_rewards(
    objective: RewardObjective, trees: Sequence[Tree], rewards: FloatArray, sizes: Sequence[int]
) -> list[Tree]:
    """The trees with the mean of what the models said of each judged answer, or step, among the parts of its score."""
    widened = []
    for tree, said in zip(trees, np.split(rewards.mean(axis=0), sizes), strict=True):
        places = [place for place, _ in judged_places(objective, tree)]
        by_place = dict(zip(places, said.tolist(), strict=True))
        told: dict[int, Outcome] = {}
        for rollout in tree.rollouts:
            outcome = rollout.outcome
            if outcome is None or not isinstance(outcome.score, Score):
                continue
            names = {rollout.leaf: SAID}
            if reads_steps(objective):
                names = {step: f"{SAID}/{STEP_PART}{n}" for n, step in enumerate(steps_of(rollout), start=1)}
            parts = {name: by_place[place] for place, name in names.items() if place in by_place}
            told[rollout.leaf] = replace(outcome, score=replace(outcome.score, parts={**outcome.score.parts, **parts}))
        widened.append(tree.with_outcomes(told))
    return widened
