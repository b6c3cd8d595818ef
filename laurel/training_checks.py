"""Before a run: do the prompts reach the policy, does the reward tell right from wrong, does the environment answer?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from laurel.asked import first_answers
from laurel.environments import Environment, Turn, runs_in_process
from laurel.errors import EnvironmentFault, LaurelError, PolicyError, TaskError
from laurel.findings import Finding, found_policy, left_out, prompts_read, tried, wrong
from laurel.policy import Policy, judges_in, reward_models_in
from laurel.preflight import check_parts, path_limit
from laurel.recipe import defaults_of
from laurel.rewards import check_reward, reads_labels
from laurel.rollout import Answering, Limits
from laurel.rollout.answering import Call, Unanswered
from laurel.tasks import Task, TaskSet
from laurel.training import loaded_teacher, train

EPISODES = 8
"""Episodes that are tried of each set of tasks."""

SCRIPTED = "1"
"""What is answered in an episode whose task has no reference."""


def training_findings(arguments: Mapping[str, Any], policy: Any, gold: str) -> list[Finding]:
    """What was found of the arguments of `laurel.train`, in the order of a run.

    - The prompts are encoded under the policy's own chat template, and leave room for an answer.
    - Episodes of a few tasks are started and answered once, where an environment plays.
    - Every gold answer scores full marks under the reward, and no wrong one does.
    - A teacher reads the policy's tokens as the policy means them.
    - An expert answers the first turn of a few episodes with what the policy can write; no budget counts these.
    - No prompt is both trained on and held out.

    Args:
        policy: as a recipe names it, or one that is loaded.
        gold: how a right answer is written; see `laurel.rewards.check_reward`.

    Raises:
        LaurelError: what training would refuse before it looks at prompts.
    """
    defaults = defaults_of(train)
    settings = {**defaults, **arguments}
    check_parts(settings, defaults)
    loaded, findings = found_policy(policy)
    sets = {name: settings[name] for name in ("tasks", "held_out") if settings[name] is not None}
    for name, tasks in sets.items():
        findings += left_out(name, tasks)
        if tasks.duplicates and settings["environment"] is None:
            findings.append(Finding(name, f"{tasks.duplicates} tasks repeat the prompt of an earlier one"))
        if settings["environment"] is not None:
            findings.append(_episodes(name, tasks, settings, loaded))
        own = settings["held_out_reward"] if name == "held_out" else None
        if (judge := settings["reward"] if own is None else own) is not None:
            findings.append(_reward(name, tasks, judge, settings, gold))
    if loaded is not None and settings["environment"] is None:
        findings.append(prompts_read("prompts", loaded, settings))
    if loaded is not None and settings["teacher"] is not None:
        findings.append(_teacher(loaded, settings["teacher"]))
    if loaded is not None and settings["expert"] is not None:
        findings.append(_expert(loaded, settings))
    if len(sets) > 1:
        findings.append(Finding("held_out", "no prompt is in both tasks and held_out"))
    return findings


def _teacher(policy: Policy, teacher: Policy | str | Path) -> Finding:
    try:
        name = loaded_teacher(policy, teacher).name
    except PolicyError as error:
        return wrong("teacher", error)
    return Finding("teacher", f"{name} reads the policy's tokens as the policy means them")


def _expert(policy: Policy, settings: Mapping[str, Any]) -> Finding:
    """The expert, asked about the first turn of the first tasks."""
    try:
        asking = first_answers({**settings, "policy": policy}, settings["tasks"].tasks[:EPISODES])
    except LaurelError as error:
        return wrong("expert", error)
    if failures := [why for why in asking.failures if why]:
        found = [f"{len(failures)} of {asking.asked} questions have no answer:", *failures]
        return Finding("expert", "\n".join(found), False)
    said = [policy.decode(tokens) for tokens in asking.answers.values()]
    return Finding("expert", f"answered {asking.asked} different first turns, the first of them by {said[0]!r}")


def _reward(name: str, tasks: TaskSet, reward: Any, settings: Mapping[str, Any], gold: str) -> Finding:
    if not reads_labels(reward):
        return Finding(name, "the reward reads no label, so there is no gold answer to try it on", None)
    try:
        if judges_in(reward):
            return tried(name, [tasks.tasks[:EPISODES]], reward, gold=gold, settings=settings["grading"])
    except PolicyError as error:
        return wrong(name, error)
    if all(task.reference is None for task in tasks):
        return Finding(name, "no task has a reference, so there is no gold answer to try the reward on", None)
    if reward_models_in(reward):
        return Finding(name, "a reward model knows no full marks to hold gold answers against", None)
    report = check_reward(tasks, reward, gold=gold, settings=settings["grading"])
    return Finding(name, str(report), report.passed)


def _episodes(name: str, tasks: TaskSet, settings: Mapping[str, Any], policy: Policy | None) -> Finding:
    """Episodes of the first tasks, each answered once: by its reference, or by a script."""
    environment, limits = settings["environment"], settings["limits"] or Limits()
    tried = tasks.tasks[:EPISODES]
    direct = runs_in_process(environment)
    calls = [
        Call(f"check.{task.id}", f"the episode of task {task.id}", partial(_play, environment, task), direct)
        for task in tried
    ]
    answers = Answering(limits).ask(calls)
    faults: list[str] = []
    going = 0
    for task, played in zip(tried, answers, strict=True):
        if isinstance(played, Unanswered):
            faults.append(played.reason)
            continue
        prompt, turn = played
        going += turn.ending is None
        try:
            _readable(policy, settings, task, prompt, turn)
        except LaurelError as error:
            faults.append(f"task {task.id}: {error.message}\n  {error.hint}")
    if faults:
        return Finding(name, "\n".join([f"{len(faults)} of {len(tried)} episodes fail:", *faults]), False)
    turns = getattr(environment, "turns", None)
    if isinstance(turns, int) and limits.max_turns < turns:
        cut = f"an episode can have {turns} turns, and limits.max_turns={limits.max_turns} cuts it: raise it to {turns}"
        return Finding(name, cut, False)
    read_by = "" if policy is None else "; the policy can read what it says"
    return Finding(
        name, f"{len(tasks)} tasks; {len(tried)} episodes started and answered one turn, {going} of them go on{read_by}"
    )


def _play(environment: Environment, task: Task) -> tuple[Any, Turn]:
    episode = environment.start(task, f"check.{task.id}")
    prompt, turn = episode.prompt, episode.respond(SCRIPTED if task.reference is None else task.reference)
    if not isinstance(turn, Turn):
        raise EnvironmentFault(
            f"{type(environment).__name__}: respond gave a {type(turn).__name__}, no Turn.", hint="return a Turn."
        )
    return prompt, turn


def _readable(policy: Policy | None, settings: Mapping[str, Any], task: Task, prompt: Any, turn: Turn) -> None:
    if policy is None:
        return
    tokens, room = len(policy.encode_prompt(prompt)), path_limit(policy, settings)
    if tokens >= room:
        raise TaskError(
            f"the prompt of its episode has {tokens} tokens for a path of at most {room}.",
            hint="shorten it, or take a model with a longer context.",
        )
    if turn.observation is not None:
        policy.bridge(turn.observation, ended_turn=True)
