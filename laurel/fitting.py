"""Fitting reward models to judged answers, as a run: recorded, checkpointed, resumed, and saved as a reward."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from laurel.allocation import keep_freed_memory
from laurel.configuration import describe
from laurel.errors import ConfigurationError, LearnerError, RunError
from laurel.fit import Fit, Member
from laurel.judged import judged
from laurel.learner import OptimiserSettings, RewardLearner
from laurel.learner.schedule import check_total_steps
from laurel.lengths import newly_left_out, usable_answers
from laurel.objectives import (
    BetweenLevels,
    Binary,
    BradleyTerry,
    PlackettLuce,
    RewardObjective,
    StepLabels,
    reads_steps,
)
from laurel.policy import Policy, load, reward_model_for
from laurel.policy.fingerprint import check_frozen
from laurel.policy.saved_reward import MODEL
from laurel.preferences import BadRow, Fault, Kind, PreferenceSet
from laurel.progress import ProgressView, Silent
from laurel.runs import Run, check_trackers, is_run, open_run, open_trackers
from laurel.tasks import TaskSet, check_leak

KIND = "reward model"
"""What a run of this kind is called in its own configuration."""

MAY_DIFFER = ("steps", "evaluate_every", "checkpoint_every", "tokens_per_microbatch")
COUNTS = ("members", "steps", "prompts_per_step", "evaluate_every", "checkpoint_every", "tokens_per_microbatch")


def fit_reward_model(
    *,
    policy: Policy | str | Path,
    tasks: TaskSet,
    held_out: TaskSet | None = None,
    objective: RewardObjective | None = None,
    members: int = 1,
    share: float = 1.0,
    learns_trunk: bool = True,
    steps: int = 100,
    prompts_per_step: int = 16,
    optimiser: OptimiserSettings | None = None,
    evaluate_every: int | None = None,
    checkpoint_every: int = 20,
    tokens_per_microbatch: int | None = None,
    seed: int = 0,
    run: str | Path = "runs/reward-model",
    resume: bool = False,
    trackers: Sequence[str] = (),
    progress: ProgressView | None = None,
) -> Run:
    """Fit a reward model, or several as an ensemble, to judged answers, and return the finished run.

    What was fitted is below the run as `model`: `laurel.train(reward=run.directory)` uses it, and
    `AutoModelForSequenceClassification` loads it (each member of an ensemble). The run's evaluations are, over the
    held-out answers and of all members together: `accuracy`, `loss`, `calibration_error`, and `disagreement` between
    several, in units of the reward.

    Args:
        policy: what the trunk of every member starts as: a policy, or the hub name or directory of one; it is copied.
        tasks: prompts with judged answers (`laurel.preferences`).
        held_out: the same, for evaluation alone; they must share no prompt with `tasks`.
        objective: the likelihood of the judgements (`laurel.objectives`); None: `objective_for`.
        members: how many reward models; each sees the tasks in an order of its own.
        share: the part of the tasks that each member learns from, in (0, 1], drawn for each on its own; the smaller,
            the more members differ where the tasks do not tell.
        learns_trunk: False: only the head learns.
        steps: optimiser steps of each member.
        prompts_per_step: prompts, with all their answers, of each member.
        optimiser: learning rate, clipping, schedule.
        evaluate_every: evaluate after this many steps, beside the first and the last; None: only those two.
        checkpoint_every: write a checkpoint after this many steps, beside the last.
        tokens_per_microbatch: how many distinct tokens one forward pass holds; None: chosen.
        seed: fixes every order and every choice.
        run, resume, trackers, progress: as in `laurel.train`.

    Raises:
        ConfigurationError, TaskError: before anything starts, if the parts do not fit together.
        LearnerError: a loss is not finite; the run can be resumed.
    """
    arguments = dict(locals())
    check_fitting(arguments)
    if not isinstance(policy, Policy):
        policy = arguments["policy"] = load(str(policy))
    shown, usable = progress or Silent(), usable_judgements(policy, arguments)
    for line in newly_left_out(arguments, usable):
        shown.told(line)
    arguments |= usable
    tasks, held_out = arguments["tasks"], arguments["held_out"]
    likelihood = arguments["objective"] = checked_objective(objective, tasks, held_out)
    left_out = ("run", "resume", "trackers", "progress")
    configuration = {"kind": KIND, **describe(arguments, leave_out=left_out)}
    settings = optimiser or OptimiserSettings()
    if policy.device.type == "cpu":
        keep_freed_memory()
    with ExitStack() as stack:
        fitted = [
            Member(
                RewardLearner(
                    reward_model_for(policy, learns_trunk=learns_trunk), likelihood, settings,
                    total_steps=steps, tokens_per_microbatch=tokens_per_microbatch,
                ),
                _share(tasks, share, seed, number).cursor(_member_seed(seed, number)),
            )
            for number in range(members)
        ]  # fmt: skip
        store = stack.enter_context(_store(run, configuration, resume, settings))
        tracked = stack.enter_context(open_trackers(trackers, store))
        fit = Fit(policy, fitted, likelihood, tasks, held_out, prompts_per_step, store, tracked, shown)
        stack.enter_context(shown.of(KIND if members == 1 else f"{members} reward models", steps))
        fit.go_on(steps, evaluate_every or steps, checkpoint_every)
        fit.export()
    return store


def objective_for(tasks: TaskSet) -> RewardObjective:
    """What is usual: pairs are fitted by Bradley-Terry, rankings by Plackett-Luce, thumbs by `Binary`, steps by
    `StepLabels`.

    Where some are tied, by Bradley-Terry with ties.

    Raises:
        TaskError: a task has no judged answers.
        ConfigurationError: judgements of several kinds, or ratings, whose scale must be told.
    """
    preferences = [judged(task) for task in tasks]
    kinds = {preference.kind for preference in preferences}
    if kinds == {Kind.THUMB}:
        return Binary()
    if kinds == {Kind.STEPS}:
        return StepLabels()
    if not kinds <= {Kind.PAIR, Kind.RANKING}:
        raise ConfigurationError(
            f"Which likelihood fits '{tasks.name}' must be told: its judgements are {', '.join(sorted(kinds))}.",
            hint="such as objective: {name: ordinal, lowest: 1, highest: 5} for ratings, or bradley_terry.",
        )
    tied = any(len(set(preference.scores)) < len(preference.scores) for preference in preferences)
    return PlackettLuce() if kinds == {Kind.RANKING} and not tied else BradleyTerry(ties=tied)


def export_of_fit(run: str | Path, directory: str | Path) -> Path:
    """Copy what a finished fit saved.

    Raises:
        RunError: it is not there.
    """
    source = Path(run) / MODEL
    if not source.is_dir():
        raise RunError(f"The run {run} has saved no reward model yet.", hint="resume it to its last step.")
    shutil.copytree(source, directory, dirs_exist_ok=True)
    return Path(directory)


def check_fitting(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of `fit_reward_model` that do not fit together.

    Raises:
        ConfigurationError: naming the argument.
        TaskError: if a held-out prompt is learned from.
    """
    check_fit_settings(arguments)
    for name in ("tasks", "held_out"):
        if not isinstance(arguments[name], TaskSet) and not (name == "held_out" and arguments[name] is None):
            raise ConfigurationError(
                f"{name} is a {type(arguments[name]).__name__}, not a set of preferences.",
                hint="read one: laurel.preferences.pairs(path).",
            )
    if arguments["held_out"] is not None:
        check_leak(arguments["tasks"], arguments["held_out"])


def check_fit_settings(arguments: Mapping[str, Any]) -> None:
    """The part of `check_fitting` that needs no judged answers; of `held_out` it reads whether there are any.

    Raises:
        ConfigurationError: naming the argument.
    """
    check_trackers(arguments["trackers"])
    for name in COUNTS:
        value = arguments[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigurationError(
                f"{name} must be a whole number from 1, got {value!r}.", hint="change or remove it."
            )
    share, seed = arguments["share"], arguments["seed"]
    if not 0 < share <= 1:
        raise ConfigurationError(f"share must lie in (0, 1], got {share!r}.", hint="1 is all of the tasks.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ConfigurationError(f"seed must be a whole number from 0, got {seed!r}.", hint="such as seed=0.")
    if arguments["held_out"] is None and arguments["evaluate_every"] is not None:
        raise ConfigurationError(
            "'evaluate_every' would not be read: without held_out answers nothing is evaluated.",
            hint="add held_out: 0.1, or remove it.",
        )
    settings = arguments["optimiser"] or OptimiserSettings()
    check_total_steps(settings.schedule, warmup_steps=settings.warmup_steps, total_steps=arguments["steps"])


def usable_judgements(policy: Policy | None, arguments: Mapping[str, Any]) -> dict[str, TaskSet | None]:
    """`tasks` and `held_out` of a fit without the rows that its likelihood or the policy cannot read.

    Args:
        policy: see `laurel.lengths.usable_answers`; None: only the likelihood is asked, to which a rating between two
            levels of an ordinal one is no judgement.
        arguments: of `fit_reward_model`.

    Raises:
        TaskError: naming the tasks, where their rows cannot be left out.
    """
    usable: dict[str, TaskSet | None] = {}
    for name in ("tasks", "held_out"):
        some = arguments[name]
        if some is not None:
            some = _between_none(arguments["objective"], some)
            some = some if policy is None else usable_answers(policy, some)
        usable[name] = some
    return usable


def _between_none(objective: RewardObjective | None, tasks: TaskSet) -> TaskSet:
    """The tasks without ratings between two levels; a plain task set stays whole: `checked_objective` refuses it."""
    faults: dict[int, BadRow] = {}
    if objective is None or not isinstance(tasks, PreferenceSet):
        return tasks
    for place, task in enumerate(tasks):
        try:
            objective.teaches(judged(task).scores)
        except BetweenLevels as error:
            faults[place] = BadRow(Fault.FRACTION, f"Task {task.id}: {error.message}", hint=error.hint)
        except LearnerError:
            return tasks
    return tasks.without(faults)


def checked_objective(objective: RewardObjective | None, tasks: TaskSet, held_out: TaskSet | None) -> RewardObjective:
    """The likelihood of a fit: the one that was given, or `objective_for`.

    Raises:
        ConfigurationError: there are scores that it cannot read, or a set says nothing to it.
        TaskError: see `objective_for`.
    """
    likelihood = objective or objective_for(tasks)
    _check_judgements(likelihood, tasks, held_out)
    return likelihood


def _check_judgements(objective: RewardObjective, tasks: TaskSet, held_out: TaskSet | None) -> None:
    for some in (tasks, held_out):
        if some is None:
            continue
        _check_kinds(objective, some)
        says = 0
        for task in some:
            try:
                says += objective.teaches(judged(task).scores)
            except LearnerError as error:
                raise ConfigurationError(
                    f"Task {task.id} of '{some.name}': {error.message}", hint=error.hint
                ) from error
        if not says:
            raise ConfigurationError(
                f"{type(objective).__name__} learns nothing from '{some.name}': no answer is better than another.",
                hint="give pairs without ties, or another objective.",
            )


def _check_kinds(objective: RewardObjective, tasks: TaskSet) -> None:
    """Labels of steps are read by an objective of steps, and by no other."""
    kinds = {judged(task).kind for task in tasks}
    if (kinds == {Kind.STEPS}) != reads_steps(objective) or (Kind.STEPS in kinds and len(kinds) > 1):
        raise ConfigurationError(
            f"{type(objective).__name__} does not read the judgements of '{tasks.name}': {', '.join(sorted(kinds))}.",
            hint="leave the objective out: it follows from the judgements." if len(kinds) == 1 else "split the set.",
        )


def _share(tasks: TaskSet, share: float, seed: int, member: int) -> TaskSet:
    """The part of the tasks that a member learns from, in their order."""
    if share == 1:
        return tasks
    count = max(1, round(share * len(tasks)))
    places = np.random.default_rng([seed, member]).permutation(len(tasks))[:count]
    return replace(tasks, tasks=tuple(tasks.tasks[place] for place in sorted(places.tolist())))


def _member_seed(seed: int, member: int) -> int:
    """Of the order of a member's tasks; the first has the run's own."""
    return seed if member == 0 else int(np.random.default_rng([seed, member]).integers(2**31))


def _store(run: str | Path, configuration: Mapping[str, Any], resume: bool, settings: OptimiserSettings) -> Run:
    if resume and is_run(run):
        with Run.open(run) as before:
            check_frozen(before.configuration.get("policy"), configuration["policy"], f"The run {run}")
    may_differ = [name for name in MAY_DIFFER if settings.schedule == "constant" or name != "steps"]
    return open_run(run, configuration, resume=resume, may_differ=may_differ)
