"""Where a step's experience comes from: drawn from the policy and graded, or written by someone else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch

from laurel.algorithms import Algorithm, Credit, Sampled
from laurel.algorithms.steps import in_steps
from laurel.credit import CreditRule, is_continuation
from laurel.environments import Environment
from laurel.errors import ConfigurationError, SamplingError, TaskError
from laurel.metrics import Metric, merge
from laurel.policy import Policy
from laurel.preferences import Kind, Preference
from laurel.rewards import Grader, learning
from laurel.rollout import Job, LocalSampler, drawn_entropies
from laurel.runs import phase
from laurel.tasks import CurriculumCursor, Cursor, Task
from laurel.tree import Ending, FloatArray, Outcome, Score, Segment, Source, Tree


@dataclass(frozen=True)
class Experience:
    """What one step has to learn from.

    Attributes:
        trees, credits: one pair per prompt, for the learner.
        discarded: trees that were drawn, graded and left out (groups without signal), kept for people to read.
        metrics: what happened while it was gathered.
    """

    trees: list[Tree]
    credits: list[Credit]
    discarded: list[Tree]
    metrics: dict[str, Metric]


Assign = Callable[[Sequence[Tree]], list[Credit]]
"""Graded trees to credit: `Learner.credit`, which asks a critic where the algorithm wants one."""


class Gather(Protocol):
    """Gathers the experience of one step under the current weights."""

    def __call__(self, step: int, policy_version: int) -> Experience: ...


@runtime_checkable
class KeepsState(Protocol):
    """A `Gather` whose later steps depend on earlier ones beyond the weights and the place among the tasks."""

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(tensors, JSON-able)."""
        ...

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Go on as the one that `state` came from."""
        ...


@dataclass
class SampledExperience:
    """Draw `samples` rollouts for each of `prompts` tasks, grade them, and assign credit.

    With `Sampled(discard_without_signal=True)` groups in which every rollout earned the same are replaced by further
    prompts, until the step is full or `maximum_draws` times `prompts` prompts have been drawn. With
    `Sampled(greedy_baseline=True)` the sampler `greedy` draws one rollout more per prompt; it stands in the tree,
    and in no metric but `greedy_reward`. With `Sampled(branching=...)` continuations are drawn from the middle of the
    samples; they stand in the tree too, and in no metric but those whose names say so.
    """

    algorithm: Algorithm
    credit: Assign
    sampler: LocalSampler
    grader: Grader
    environment: Environment | None
    cursor: Cursor
    prompts: int
    samples: int
    greedy: LocalSampler | None = None

    def __call__(self, step: int, policy_version: int) -> Experience:
        source = self.algorithm.source
        if not isinstance(source, Sampled):
            raise ConfigurationError(f"{self.algorithm.name} does not sample.", hint="use DemonstratedExperience.")
        kept: list[tuple[Tree, Credit]] = []
        discarded: list[Tree] = []
        parts: list[dict[str, Metric]] = []
        drawn, limit = 0, self.prompts * source.maximum_draws
        while len(kept) < self.prompts and drawn < limit:
            tasks = self.cursor.next(min(self.prompts - len(kept), limit - drawn))
            trees, metrics = self._draw(f"{step}", drawn, tasks, policy_version)
            drawn += len(tasks)
            parts.append(metrics)
            for tree, credit in zip(trees, self.credit(trees), strict=True):
                if source.discard_without_signal and not credit.carries_signal:
                    discarded.append(tree)
                else:
                    kept.append((tree, credit))
        phase("after_grading", step)
        trees = [tree for tree, _ in kept]
        # A rule may normalise over the batch, so the credit that is learned from is that of the kept trees together.
        credits = self.credit(trees) if discarded else [credit for _, credit in kept]
        metrics = merge(parts)
        metrics["groups_without_signal"] = Metric(drawn - self._with_signal(trees, credits), drawn)
        return Experience(trees, credits, discarded, metrics)

    def _with_signal(self, trees: Sequence[Tree], credits: Sequence[Credit]) -> int:
        """In how many of these trees the reward of the task tells some rollouts from others.

        Penalties do so nearly always: where there are any, they are left out. A critic tells them apart too.
        """
        if self.algorithm.penalties and not self.algorithm.needs_critic:
            credits = cast(CreditRule, self.algorithm.credit)(trees)
        return sum(credit.carries_signal for credit in credits)

    def _draw(
        self, prefix: str, offset: int, tasks: Sequence[Task], policy_version: int
    ) -> tuple[list[Tree], dict[str, Metric]]:
        jobs = [
            Job(f"{prefix}.{offset + index}", task, self.samples, self.environment) for index, task in enumerate(tasks)
        ]
        trees = self._in_steps(self.sampler.collect(jobs, policy_version=policy_version))
        trees = self._branched(jobs, trees, policy_version)
        best: list[Tree] = []
        if self.greedy is not None:
            best = self.greedy.collect(
                [replace(job, tree_id=f"{job.tree_id}.greedy", samples=1) for job in jobs],
                policy_version=policy_version,
            )
        phase("after_sampling", int(prefix))
        asked = {task.id: task for task in tasks}
        reward = learning(self.grader.reward)
        learned = {} if reward is None else reward.learn(int(prefix), trees, asked)
        graded, metrics = self.grader.grade([*trees, *best], asked)
        trees, best = graded[: len(jobs)], graded[len(jobs) :]
        walked = self._walked(trees)
        metrics = merge([learned, metrics, rollout_metrics(trees), self._continuation_metrics(trees), walked])
        if not best:
            return trees, metrics
        metrics["greedy_reward"] = rollout_metrics(best)["reward"]
        return [beside(tree, other) for tree, other in zip(trees, best, strict=True)], metrics

    def _walked(self, trees: Sequence[Tree]) -> dict[str, Metric]:
        """Tell a curriculum how its tasks went."""
        if not isinstance(self.cursor, CurriculumCursor):
            return {}
        rollouts = [rollout for tree in trees for rollout in tree.rollouts if not is_continuation(rollout.id)]
        graded = [rollout for rollout in rollouts if rollout.outcome is not None and not rollout.outcome.failed]
        return self.cursor.learn([(rollout.tree.task_id, rollout.reward) for rollout in graded])

    def _in_steps(self, trees: list[Tree]) -> list[Tree]:
        separator = self.algorithm.source.step_separator if isinstance(self.algorithm.source, Sampled) else None
        if separator is None:
            return trees
        return [in_steps(tree, separator, self.sampler.policy.decode) for tree in trees]

    def _branched(self, jobs: Sequence[Job], trees: list[Tree], policy_version: int) -> list[Tree]:
        """The trees with continuations where the algorithm wants values, all of them drawn as one batch."""
        branching = self.algorithm.source.branching if isinstance(self.algorithm.source, Sampled) else None
        if branching is None:
            return trees
        policy = self.sampler.policy
        entropies: list[FloatArray] | list[None] = [None] * len(trees)
        if branching.needs_entropies:
            entropies = drawn_entropies(policy, trees)
        return self.sampler.branch_all(
            trees,
            [branching.places(tree, policy.decode, own) for tree, own in zip(trees, entropies, strict=True)],
            samples=branching.continuations,
            policy_version=policy_version,
            jobs=jobs,
        )

    def _continuation_metrics(self, trees: Sequence[Tree]) -> dict[str, Metric]:
        if not (isinstance(self.algorithm.source, Sampled) and self.algorithm.source.branching):
            return {}
        drawn = rollout_metrics(trees, continuations=True)
        samples = sum(not is_continuation(rollout.id) for tree in trees for rollout in tree.rollouts)
        return {
            "continuations": Metric(drawn["failed"].count, samples),
            "continuation_reward": drawn["reward"],
            "continuation_failed": drawn["failed"],
            "continuation_tokens": drawn["answer_tokens"],
        }


def beside(tree: Tree, other: Tree) -> Tree:
    """The rollouts of both trees below the one prompt that they share.

    Raises:
        SamplingError: if they have different prompts.
    """
    if not np.array_equal(tree.segments[0].tokens, other.segments[0].tokens):
        raise SamplingError(
            f"Trees {tree.id} and {other.id} have different prompts.",
            hint="an episode's prompt must depend on the task alone.",
        )
    shift = len(tree.segments) - 1
    moved = [replace(s, parent=s.parent + shift if s.parent else 0) for s in other.segments[1:]]
    return replace(tree, segments=(*tree.segments, *moved))


@dataclass
class DemonstratedExperience:
    """Lay out the next `prompts` tasks and their reference answers as trees with one rollout each."""

    policy: Policy
    cursor: Cursor
    prompts: int
    credit: Assign

    def __call__(self, step: int, policy_version: int) -> Experience:
        trees = [
            demonstration(self.policy, task, f"{step}.{index}")
            for index, task in enumerate(self.cursor.next(self.prompts))
        ]
        return Experience(trees, self.credit(trees), [], rollout_metrics(trees))


def no_reference(task: Task, among: str | None = None) -> TaskError:
    """That a task has no answer to imitate, and what to do about it.

    Args:
        among: the name of its set.
    """
    if not isinstance(task, Preference):
        hint = "name the column: reference=..."
    elif task.kind is Kind.STEPS:
        hint = (
            "an answer whose steps are not all labelled right is no demonstration: leave such rows out, or learn from "
            "all labels by laurel fit-reward-model."
        )
    elif task.kind is Kind.THUMB:
        hint = "an answer with a thumb down is no demonstration: leave such rows out, or learn from them by kto."
    else:
        hint = "none of its answers is above all others: leave such rows out, or learn from comparisons by dpo."
    where = "" if among is None else f" of '{among}'"
    return TaskError(f"Task {task.id}{where} has no reference answer to learn from.", hint=hint)


def demonstration(policy: Policy, task: Task, tree_id: str) -> Tree:
    """A task and its reference answer, ended by the policy's end token, as a tree of one rollout.

    Raises:
        TaskError: if the task has no reference, or does not fit in the policy's context.
    """
    if task.reference is None:
        raise no_reference(task)
    prompt, answer = policy.encode_prompt(task.prompt), policy.encode_answer(task.reference)
    if len(prompt) + len(answer) > policy.context_length:
        raise TaskError(
            f"Task {task.id}: prompt and answer have {len(prompt) + len(answer)} tokens; the policy's context holds "
            f"{policy.context_length}.",
            hint="shorten or leave out this row.",
        )
    text = task.prompt if isinstance(task.prompt, str) else policy.decode(prompt)
    outcome = Outcome(Ending.TERMINATED, "demonstration", Score(1.0))
    return Tree(
        tree_id,
        task.id,
        (
            Segment(Source.PROMPT, prompt, -1, text=text),
            Segment(Source.POLICY, answer, 0, text=task.reference, outcome=outcome, rollout_id=f"{tree_id}.0"),
        ),
    )


def rollout_metrics(trees: Sequence[Tree], *, continuations: bool = False) -> dict[str, Metric]:
    """Reward, answer length, endings, failures, and what was left out on purpose, over all samples of these trees.

    `truncated` and `answer_tokens` are over the rollouts whose sampling did not fail, whatever became of their score:
    what is left out for being cut off is as long as an answer can be.

    Args:
        continuations: of the rollouts that were drawn from the middle of samples instead; the length of such a one
            counts only what it does not share with the sample.
    """
    rewards: list[float] = []
    lengths: list[float] = []
    truncated = failed = left_out = total = 0
    for tree in trees:
        for rollout in tree.rollouts:
            if is_continuation(rollout.id) != continuations:
                continue
            total += 1
            outcome = rollout.outcome
            if outcome is not None and outcome.ending is not Ending.FAILED:
                drawn = (s for s in rollout.segments if is_continuation(s.rollout_id) == continuations)
                lengths.append(sum(len(s) for s in drawn if s.source is Source.POLICY))
                truncated += outcome.ending is Ending.TRUNCATED
            if outcome is not None and outcome.left_out:
                left_out += 1
            elif outcome is None or outcome.failed:
                failed += 1
            else:
                rewards.append(rollout.reward)
    return {
        "reward": Metric.of(rewards),
        "answer_tokens": Metric.of(lengths),
        "truncated": Metric(truncated, len(lengths)),
        "failed": Metric(failed, total),
        "left_out": Metric(left_out, total),
    }
