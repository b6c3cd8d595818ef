"""Before judged answers are learned from: can they be used, and does the reward that is kept aside work?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel.errors import ConfigurationError, PolicyError, RunError, TaskError
from laurel.findings import Finding, found_policy, left_out, prompts_read, tried, wrong
from laurel.fitting import check_fitting, checked_objective, fit_reward_model, usable_judgements
from laurel.human_feedback import check_same, rlhf, settings_of
from laurel.human_feedback_stages import Stages, stages
from laurel.judged import judged
from laurel.plan import shortly
from laurel.policy import Policy, RewardModel, check_exportable, reward_models_in
from laurel.recipe import defaults_of
from laurel.rewards.check import GOLD
from laurel.training import train

TRIED = 8
"""Tasks of each set that the gold reward is tried on."""


def fit_findings(arguments: Mapping[str, Any], policy: Any, gold: str) -> list[Finding]:
    """What was found of the arguments of `laurel.fit_reward_model`.

    - Rows that cannot be used are counted, and enough is left that says something to the likelihood.
    - Every judged answer is read in the policy's tokens, fits its context, and shows where its labelled steps end.
    - What is fitted can be saved.
    - No prompt is both learned from and held out.

    Args:
        policy: as a recipe names it, or one that is loaded.

    Raises:
        LaurelError: what the fit would refuse before it looks at texts.
    """
    if gold != GOLD:
        raise ConfigurationError("'gold' would not be read: no reward is asked.", hint="leave --gold out.")
    settings = {**defaults_of(fit_reward_model), **arguments}
    check_fitting(settings)
    loaded, findings = found_policy(policy)
    settings, answers = _usable("answers", loaded, settings)
    findings += [*_judgements("", settings), *answers]
    if loaded is not None:
        findings.append(_saved("reward_model", loaded, needed=False))
    if settings["held_out"] is not None:
        findings.append(Finding("held_out", "no prompt is in both tasks and held_out"))
    return findings


def feedback_findings(arguments: Mapping[str, Any], policy: Any, gold: str) -> list[Finding]:
    """What was found of the arguments of `laurel.rlhf`.

    - The gold reward can judge a few gold answers and the empty answer; what it says of them is nobody's business.
    - The prompts of both policies' runs are read, and demonstrations fit.
    - Comparisons of one's own are looked at as `fit_findings` does.
    - What stands in the directory was started with the same settings.

    Raises:
        LaurelError: what the command would refuse before it looks at texts.
    """
    settings = {**defaults_of(rlhf), **arguments}
    planned = stages({**settings, "policy": None})
    loaded, findings = found_policy(policy)
    for name, tasks in {"tasks": settings["tasks"], "held_out": settings["held_out"]}.items():
        findings += left_out(name, tasks)
    if planned.clone["tasks"] is not settings["tasks"]:
        findings += left_out("clone.tasks", planned.clone["tasks"])
    findings.append(_gold(settings, planned, gold))
    if planned.labels is None:
        fit, answers = _usable("reward_model.tasks", loaded, planned.fit)
        findings += [*_judgements("reward_model.", fit), *answers]
    else:
        made = f"{planned.labels.pairs:,} comparisons will be made of the clone's answers, which are not there yet"
        findings.append(Finding("reward_model.tasks", made, None))
    if loaded is not None:
        findings += _read(loaded, settings, planned.starting_from(loaded))
    findings.append(Finding("held_out", "no prompt is in both tasks and held_out"))
    return findings


def _judgements(where: str, settings: Mapping[str, Any]) -> list[Finding]:
    """What was left out, and what the rest says to the likelihood.

    Raises:
        ConfigurationError, TaskError: as the fit.
    """
    sets = {name: settings[name] for name in ("tasks", "held_out") if settings[name] is not None}
    objective = checked_objective(settings["objective"], settings["tasks"], settings["held_out"])
    findings: list[Finding] = []
    for name, tasks in sets.items():
        findings += left_out(f"{where}{name}", tasks)
        says = sum(objective.teaches(judged(task).scores) for task in tasks)
        told = f"{says:,} of {len(tasks):,} prompts say something to {shortly(objective)}"
        findings.append(Finding(f"{where}{name}", told))
    return findings


def _usable(about: str, policy: Policy | None, settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
    """The arguments of a fit without rows that nobody can read, and what was found of the others.

    Raises:
        TaskError: as the fit, where the likelihood cannot read a row.
    """
    readable = {**settings, **usable_judgements(None, settings)}
    if policy is None:
        return readable, []
    try:
        readable |= usable_judgements(policy, readable)
    except (TaskError, PolicyError) as error:
        return readable, [wrong(about, error)]
    told = f"all are tokens, and fit a context of {policy.context_length:,} with their prompts"
    return readable, [Finding(about, told)]


def _saved(about: str, policy: Policy, *, needed: bool) -> Finding:
    """Whether what is fitted can be written as a reward model, which the next run needs."""
    try:
        check_exportable(RewardModel(policy))
    except PolicyError as error:
        if needed:
            return wrong(about, error)
        return Finding(about, f"what is fitted stays in the checkpoints, and is no reward for others: {error.message}")
    return Finding(about, "what is fitted can be saved as a reward")


def _gold(settings: Mapping[str, Any], planned: Stages, gold: str) -> Finding:
    """The gold reward on a few answers, whatever it says of them."""
    reward, about = settings["gold_reward"], "gold_reward"
    if reward_models_in(reward):
        return Finding(
            about, "a reward model; whether it reads the policy's answers is looked at with the prompts", None
        )
    some = [settings[name].tasks[:TRIED] for name in ("tasks", "held_out")]
    try:
        return tried(about, some, reward, gold=gold, settings=planned.reinforce.get("grading"))
    except TaskError as error:
        return wrong(about, error)


def _read(policy: Policy, settings: Mapping[str, Any], planned: Stages) -> list[Finding]:
    """What the runs need the policy for."""
    defaults = defaults_of(train)
    findings = [
        prompts_read("clone", policy, {**defaults, **planned.clone}),
        prompts_read("reinforce", policy, {**defaults, **planned.reinforce}),
        _saved("reward_model", policy, needed=True),
    ]
    try:
        check_same(planned.directory, settings_of(settings, policy))
    except (ConfigurationError, RunError) as error:
        findings.append(wrong("run", error))
    return findings
