"""Judged answers as experience: a prompt with its answers as the leaves of one tree, their scores as outcomes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from laurel.algorithms import Compared
from laurel.errors import TaskError
from laurel.experience import Assign, Experience, beside, demonstration, rollout_metrics
from laurel.judged_steps import labelled_answer
from laurel.metrics import Metric
from laurel.policy import Policy
from laurel.preferences import JudgedSteps, Preference
from laurel.rollout import Job, LocalSampler
from laurel.runs import phase
from laurel.tasks import Cursor, Task
from laurel.tree import MISMATCHED, Ending, Outcome, Score, Segment, Source, Tree


@dataclass
class JudgedExperience:
    """Lay out the next `prompts` tasks with their judged answers as trees, one rollout per answer.

    With `Compared(mismatched=True)` the answers to each prompt are followed by the first answer to the next other
    prompt of the step (from the first one on, after the last).
    """

    source: Compared
    policy: Policy
    cursor: Cursor
    prompts: int
    credit: Assign

    def __call__(self, step: int, policy_version: int) -> Experience:
        tasks = [judged(task) for task in self.cursor.next(self.prompts)]
        trees = [comparison(self.policy, task, f"{step}.{index}") for index, task in enumerate(tasks)]
        if self.source.mismatched:
            trees = with_mismatched(trees, room=self.policy.context_length)
        credits = self.credit(trees)
        silent = len(trees) - sum(credit.carries_signal for credit in credits)
        metrics = {
            "answer_tokens": rollout_metrics(trees)["answer_tokens"],
            "groups_without_signal": Metric(float(silent), float(len(trees))),
        }
        return Experience(trees, credits, [], metrics)


@dataclass
class SelfPlayExperience:
    """Draw `samples` answers to each of the next `prompts` tasks, and put the task's reference answer beside them.

    The reference answer scores 1 and every sample 0, whatever it says; a sample that could not be drawn has no score.
    """

    sampler: LocalSampler
    cursor: Cursor
    prompts: int
    samples: int
    credit: Assign

    def __call__(self, step: int, policy_version: int) -> Experience:
        tasks = self.cursor.next(self.prompts)
        jobs = [Job(f"{step}.{index}", task, self.samples, None) for index, task in enumerate(tasks)]
        drawn = self.sampler.collect(jobs, policy_version=policy_version)
        phase("after_sampling", step)
        lost = [tree.with_outcomes(scored_nothing(tree)) for tree in drawn]
        shown = [demonstration(self.sampler.policy, job.task, f"{job.tree_id}.demonstration") for job in jobs]
        trees = [beside(tree, other) for tree, other in zip(lost, shown, strict=True)]
        metrics = {name: value for name, value in rollout_metrics(lost).items() if name != "reward"}
        return Experience(trees, self.credit(trees), [], metrics)


def scored_nothing(tree: Tree) -> dict[int, Outcome]:
    """A score of 0 for every sample that was drawn."""
    outcomes = {leaf: tree.segments[leaf].outcome for leaf in tree.leaves}
    return {
        leaf: replace(outcome, score=Score(0.0))
        for leaf, outcome in outcomes.items()
        if outcome is not None and not outcome.failed
    }


def judged(task: Task) -> Preference:
    """The task, which must be a preference.

    Raises:
        TaskError: its answers were not judged.
    """
    if not isinstance(task, Preference):
        raise TaskError(
            f"Task {task.id} has no judged answers to learn from.",
            hint="read the tasks by laurel.preferences.pairs (rankings, ratings, thumbs).",
        )
    return task


def comparison(policy: Policy, task: Preference, tree_id: str) -> Tree:
    """The answers to a prompt, each ended by the policy's end token, as leaves in their order.

    Raises:
        TaskError: prompt and answer do not fit in the policy's context.
    """
    if isinstance(task, JudgedSteps):
        return labelled_answer(policy, task, tree_id)
    prompt = policy.encode_prompt(task.prompt)
    text = task.prompt if isinstance(task.prompt, str) else policy.decode(prompt)
    segments = [Segment(Source.PROMPT, prompt, -1, text=text)]
    for index, (answer, score) in enumerate(zip(task.answers, task.scores, strict=True)):
        tokens = policy.encode_answer(answer)
        if len(prompt) + len(tokens) > policy.context_length:
            raise TaskError(
                f"Task {task.id}: prompt and answer {index} have {len(prompt) + len(tokens)} tokens; the policy's "
                f"context holds {policy.context_length}.",
                hint="shorten or leave out this row.",
            )
        outcome = Outcome(Ending.TERMINATED, task.kind.value, Score(score))
        name = f"{tree_id}.{index}"
        segments.append(Segment(Source.POLICY, tokens, 0, text=answer, outcome=outcome, rollout_id=name))
    return Tree(tree_id, task.id, tuple(segments))


def with_mismatched(trees: Sequence[Tree], *, room: int = sys.maxsize) -> list[Tree]:
    """Every tree with the first answer of the next one to another prompt as one more leaf, which nobody judged.

    Where all trees have the same prompt it is that of the next one. A tree whose prompt leaves room for none of these
    answers stays as it is.

    Args:
        room: the most tokens on one path.
    """
    widened = []
    for number, tree in enumerate(trees):
        following = [*trees[number + 1 :], *trees[:number]] or [tree]
        prompt = tree.segments[0].tokens
        fitting = [other for other in following if len(prompt) + len(other.segments[1].tokens) <= room]
        if not fitting:
            widened.append(tree)
            continue
        others = (other for other in fitting if not np.array_equal(other.segments[0].tokens, prompt))
        answer = next(others, fitting[0]).segments[1]
        outcome = Outcome(Ending.TERMINATED, "mismatched", MISMATCHED)
        added = replace(answer, parent=0, outcome=outcome, rollout_id=f"{tree.id}.mismatched")
        widened.append(replace(tree, segments=(*tree.segments, added)))
    return widened
