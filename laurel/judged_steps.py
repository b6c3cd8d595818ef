"""Labelled steps as experience: an answer cut where its steps end, with the labels as the parts of its score.

Labels come from a file (`laurel.preferences.step_labels`), from continuations (`label_by_continuations`), or from
whoever is asked about each step (`label_by_judge`). The trees are what a process reward model is fitted to, and
`step_rows` makes rows of them that the file reader takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from laurel.algorithms.steps import in_steps, step_ends
from laurel.credit import Estimate, labelled_steps, monte_carlo_labels, step_places, steps_of
from laurel.errors import TaskError
from laurel.metrics import Metric
from laurel.policy import Policy
from laurel.preferences import JudgedSteps
from laurel.rewards import Grader
from laurel.rollout import Job, LocalSampler
from laurel.tasks import Task
from laurel.tree import STEP_PART, Ending, Failed, IntArray, Outcome, Score, Segment, Source, Tree


def labelled_answer(policy: Policy, task: JudgedSteps, tree_id: str) -> Tree:
    """The answer below its prompt, one segment per step; the end token belongs to the last.

    Raises:
        TaskError: they do not fit in the policy's context, or its tokenizer cannot tell the steps apart.
    """
    prompt, tokens = policy.encode_prompt(task.prompt), policy.encode_answer(task.answers[0])
    if len(prompt) + len(tokens) > policy.context_length:
        raise TaskError(
            f"Task {task.id}: prompt and steps have {len(prompt) + len(tokens)} tokens; the policy's context holds "
            f"{policy.context_length}.",
            hint="shorten or leave out this row.",
        )
    ends = _ends(policy, task, tokens)
    text = task.prompt if isinstance(task.prompt, str) else policy.decode(prompt)
    parts = {f"{STEP_PART}{n}": label for n, label in enumerate(task.labels, start=1) if label is not None}
    outcome = Outcome(Ending.TERMINATED, task.kind.value, Score(task.scores[0], parts))
    segments = [Segment(Source.PROMPT, prompt, -1, text=text)]
    for number, (step, (start, end)) in enumerate(zip(task.steps, pairwise([0, *ends]), strict=True), start=1):
        last = outcome if number == len(task.steps) else None
        name = f"{tree_id}.0"
        segments.append(Segment(Source.POLICY, tokens[start:end], number - 1, step, outcome=last, rollout_id=name))
    return Tree(tree_id, task.id, tuple(segments))


def check_steps(policy: Policy, tasks: Iterable[Task]) -> None:
    """Whether the ends of all labelled steps can be found in their tokens.

    Raises:
        TaskError: naming the first task where they cannot.
    """
    for task in tasks:
        if isinstance(task, JudgedSteps):
            _ends(policy, task, policy.encode_answer(task.answers[0]))


def _ends(policy: Policy, task: JudgedSteps, tokens: IntArray) -> list[int]:
    try:
        return step_ends(tokens, task.steps, policy.decode)
    except TaskError as error:
        raise TaskError(f"Task {task.id}: {error.message}", hint=error.hint) from error


def label_by_continuations(
    sampler: LocalSampler,
    grader: Grader,
    jobs: Sequence[Job],
    *,
    separator: str | None = "\n",
    continuations: int = 8,
    estimate: Estimate = "soft",
    policy_version: int = 0,
) -> tuple[list[Tree], dict[str, Metric]]:
    """Sample answers, and label each of their steps by what the policy makes of it (`monte_carlo_labels`).

        jobs = [Job(f"labels.{number}", task, 4, None) for number, task in enumerate(tasks)]
        trees, metrics = label_by_continuations(sampler, grader, jobs)

    Args:
        sampler: of the policy whose chances the labels are.
        grader: with the reward of whole answers, which must lie in [0, 1].
        jobs: what to sample: a task, the name of its tree, how many answers, and its environment.
        separator: what ends a step within a turn; None: a turn is one step.
        continuations: at every place where a next step begins.
        estimate: "soft" or "hard".
        policy_version: as in `LocalSampler.collect`.

    Returns:
        one tree per job, with the answers alone; and `step_label` (their mean), `steps_without_label`,
        `continuations` (per answer), with what the grader counted.
    """
    tasks = {job.task.id: job.task for job in jobs}
    trees = sampler.collect(jobs, policy_version=policy_version)
    if separator is not None:
        trees = [in_steps(tree, separator, sampler.policy.decode) for tree in trees]
    places = [step_places(tree) for tree in trees]
    trees = sampler.branch_all(trees, places, samples=continuations, policy_version=policy_version, jobs=jobs)
    graded, metrics = grader.grade(trees, tasks)
    labelled = [monte_carlo_labels(tree, estimate) for tree in graded]
    drawn = sum(map(len, places)) * continuations
    answers = sum(len(tree.leaves) for tree in labelled)
    return labelled, metrics | _label_metrics(labelled) | {"continuations": Metric(float(drawn), float(answers))}


def label_by_judge(
    trees: Sequence[Tree], grader: Grader, tasks: Mapping[str, Task]
) -> tuple[list[Tree], dict[str, Metric]]:
    """Trees whose policy segments are steps, each labelled by whoever the grader asks.

    Args:
        trees: sampled answers cut by `laurel.algorithms.in_steps`; what they scored before does not matter.
        grader: with `laurel.rewards.step_scores(...)` of a judge that says for each step how likely it is right.
        tasks: by id.

    Returns:
        the trees, and `step_label`, `steps_without_label` and what the grader counted.

    Raises:
        TaskError: the judge said something else than a probability; names the rollout.
    """
    asked = [tree.with_outcomes(_unscored(tree)) for tree in trees]
    graded, metrics = grader.grade(asked, tasks)
    for tree in graded:
        for step, label in labelled_steps(tree):
            if not 0 <= label <= 1:
                raise TaskError(
                    f"The judge gave {label:g} to step {step} of tree {tree.id}.", hint="say a number from 0 to 1."
                )
    return graded, metrics | _label_metrics(graded)


def step_rows(trees: Sequence[Tree], tasks: Mapping[str, Task]) -> list[dict[str, Any]]:
    """Labelled answers as rows for `laurel.preferences.step_labels`; an answer without any label has none.

    The steps keep their separators, so that the reader must be given the one that they end with.

    Raises:
        TaskError: an environment spoke between the steps, which a row cannot say; names the rollout.
    """
    rows = []
    for tree in trees:
        known = dict(labelled_steps(tree))
        for rollout in tree.rollouts:
            if any(segment.source is Source.ENVIRONMENT for segment in rollout.segments):
                raise TaskError(
                    f"Rollout {rollout.id} is a dialogue with an environment, and a row holds one answer.",
                    hint="fit to the trees themselves: laurel.learner.RewardLearner.update(trees).",
                )
            steps = steps_of(rollout)
            labels = [known.get(step) for step in steps]
            if any(label is not None for label in labels):
                prompt = tasks[tree.task_id].prompt
                texts = [tree.segments[step].text for step in steps]
                rows.append(
                    {
                        "prompt": prompt if isinstance(prompt, str) else list(prompt),
                        "completions": texts,
                        "labels": labels,
                    }
                )
    return rows


def _unscored(tree: Tree) -> dict[int, Outcome]:
    """Every outcome that a score could stand in, without one."""
    outcomes = {}
    for leaf in tree.leaves:
        outcome = tree.segments[leaf].outcome
        if outcome is not None and outcome.ending is not Ending.FAILED and not isinstance(outcome.score, Failed):
            outcomes[leaf] = Outcome(outcome.ending, outcome.stop_reason)
    return outcomes


def _label_metrics(trees: Sequence[Tree]) -> dict[str, Metric]:
    labels = [label for tree in trees for _, label in labelled_steps(tree)]
    steps = sum(segment.source is Source.POLICY for tree in trees for segment in tree.segments)
    return {
        "step_label": Metric.of(labels),
        "steps_without_label": Metric(float(steps - len(labels)), float(steps)),
    }
