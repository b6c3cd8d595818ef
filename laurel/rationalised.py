"""A second chance with a hint: where no sample of a prompt was accepted, the policy is told something and tries again.

What it wrote then stands below the prompt without the hint, as if somebody else had written it: it was not drawn from
what it is learned by, so it carries no log-probabilities, and no method takes it for its own samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from laurel.algorithms import Algorithm, Sampled
from laurel.credit import Accepted
from laurel.errors import ConfigurationError
from laurel.experience import SampledExperience, beside, rollout_metrics
from laurel.metrics import Metric
from laurel.rewards import needs_siblings
from laurel.rollout import Job
from laurel.tasks import Task, TaskSet
from laurel.tasks.template import Template
from laurel.tree import Segment, Source, Tree


@dataclass
class RationalisedExperience(SampledExperience):
    """`SampledExperience` whose prompts without an accepted sample are drawn again behind `source.hint`.

    Metrics: `rationalised`, the share of all prompts that only a hint got an answer to; `hinted_reward` of what was
    drawn behind hints, which is in no other metric.
    """

    def _draw(
        self, prefix: str, offset: int, tasks: Sequence[Task], policy_version: int
    ) -> tuple[list[Tree], dict[str, Metric]]:
        trees, metrics = super()._draw(prefix, offset, tasks, policy_version)
        accepted = self.algorithm.credit
        source = self.algorithm.source
        assert isinstance(accepted, Accepted) and isinstance(source, Sampled) and source.hint is not None
        missed = [place for place, tree in enumerate(trees) if not accepted.accepted(tree).any()]
        jobs = [
            Job(f"{prefix}.{offset + place}.hint", hinted(tasks[place], source.hint), self.samples, None)
            for place in missed
        ]
        drawn = self.sampler.collect(jobs, policy_version=policy_version) if jobs else []
        told = [without_hint(tree, trees[place]) for place, tree in zip(missed, drawn, strict=True)]
        graded, _ = self.grader.grade(told, {task.id: task for task in tasks})
        for place, tree in zip(missed, graded, strict=True):
            trees[place] = beside(trees[place], tree)
        helped = sum(bool(accepted.accepted(tree).any()) for tree in graded)
        metrics["rationalised"] = Metric(helped, len(trees))
        metrics["hinted_reward"] = rollout_metrics(graded)["reward"]
        return trees, metrics


def hinted(task: Task, hint: str) -> Task:
    """The task whose prompt, or the last message of it, begins with the hint.

    Raises:
        TaskError: the task has no such data.
    """
    text = Template(hint).fill({**task.data, "reference": task.reference}, f"task {task.id}")
    if isinstance(task.prompt, str):
        return replace(task, prompt=text + task.prompt)
    *before, last = task.prompt
    return replace(task, prompt=(*before, {**last, "content": text + last["content"]}))


def without_hint(drawn: Tree, plain: Tree) -> Tree:
    """Answers that were drawn behind a hint, below the prompt of another tree, as written by nobody's draw."""
    segments: list[Segment] = [plain.segments[0]]
    for segment in drawn.segments[1:]:
        if segment.source is Source.POLICY:
            segment = replace(segment, sampler_log_probs=None, sampling=None, support=None, policy_version=None)
        segments.append(segment)
    return replace(drawn, segments=tuple(segments))


def check_hints(arguments: Mapping[str, Any]) -> None:
    """Refuse hints that cannot be given, or that tell what nobody is to know.

    Args:
        arguments: all of `laurel.train`, by name.

    Raises:
        ConfigurationError: naming the argument.
        TaskError: a task lacks what the hint tells.
    """
    algorithm: Algorithm = arguments["algorithm"]
    if not (isinstance(algorithm.source, Sampled) and algorithm.source.hint is not None):
        return
    why = None
    if arguments["environment"] is not None:
        why = "an environment writes the prompts, and would answer what was drawn behind one"
    elif needs_siblings(arguments["reward"]):
        why = "the reward holds an answer against its siblings, and those that were told have others"
    if why is not None:
        raise ConfigurationError(f"algorithm: no hint can be given: {why}.", hint="remove algorithm.hint.")
    _ = hinted_tasks(arguments["tasks"], algorithm.source.hint)


def hinted_tasks(tasks: TaskSet, hint: str) -> TaskSet:
    """All tasks behind the hint.

    Raises:
        TaskError: a task lacks what it tells.
    """
    return TaskSet(f"{tasks.name} behind the hint", tuple(hinted(task, hint) for task in tasks))
