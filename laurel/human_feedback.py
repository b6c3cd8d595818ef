"""Reinforcement learning from human feedback in one call: cloning, reward model, reinforcement, as three runs.

    RUN/clone/              laurel.train by clone, judged by the gold reward
    RUN/preferences.jsonl   comparisons of the clone's answers, where a teacher made them
    RUN/reward_model/       laurel.fit_reward_model, from the clone
    RUN/best_of.json        answers of the clone under both rewards, for best-of-n
    RUN/reinforce/          laurel.train from the clone, paid by the reward model, held to the clone by a KL
    RUN/report.json, report.svg

The gold reward is kept aside: it judges held-out answers along the way, and no policy ever learns from it. Each part is
there as a whole or is done again, so that the same call goes on where the last one was stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from laurel.configuration import describe
from laurel.errors import ConfigurationError, RunError
from laurel.evaluation import averaged, judged_again
from laurel.fitting import fit_reward_model
from laurel.human_feedback_report import FeedbackReport
from laurel.human_feedback_stages import COMPARISONS, Labels, check_stages, stages
from laurel.over_optimisation import Drawn, Point, course, draw, scores
from laurel.policy import Policy, SavedReward, load, reward_for
from laurel.preferences import Query
from laurel.progress import ProgressView
from laurel.rewards import Grader, Reward
from laurel.rollout import Job, Limits, LocalSampler
from laurel.runs import Run
from laurel.tasks import TaskSet
from laurel.training import train
from laurel.tree import Rollout, Sampling, Score, Source

BEST_OF = (1, 2, 4, 8, 16, 32, 64)

ATTEMPTS = 4
"""How many times as many pairs as wanted are drawn, where answers are equal or cannot be judged."""


def rlhf(
    *,
    policy: Policy | str | Path,
    tasks: TaskSet,
    held_out: TaskSet,
    gold_reward: Reward,
    clone: Mapping[str, Any],
    reward_model: Mapping[str, Any],
    reinforce: Mapping[str, Any],
    labels: Labels | None = None,
    pessimism: float = 0.0,
    best_of: Sequence[int] = BEST_OF,
    seed: int = 0,
    run: str | Path = "runs/rlhf",
    progress: ProgressView | None = None,
) -> FeedbackReport:
    """Clone demonstrations, fit a reward model to comparisons, reinforce what it likes; report what that was worth.

    The same call goes on where an earlier one was stopped, and repeats nothing that is finished.

    Args:
        policy: what is cloned into.
        tasks: the prompts that it is reinforced on, and that a teacher is asked about.
        held_out: prompts that everything is judged on; they must share none with `tasks`.
        gold_reward: what is wanted in truth. It judges, and is never trained on.
        clone: arguments of `laurel.train` for the first run, such as `tasks` (demonstrations; default: `tasks`),
            `steps` and `optimiser`; what stands in this call is not repeated there.
        reward_model: arguments of `laurel.fit_reward_model` for the second; its `tasks` are comparisons, which `labels`
            makes instead.
        reinforce: arguments of `laurel.train` for the third; default algorithm: rloo with a KL of 0.05 in the reward.
        labels: a teacher compares answers of the clone by the gold reward.
        pessimism: of an ensemble (`reward_model: {members: 3}`), how much of the disagreement is taken off the reward.
        best_of: the n of best-of-n.
        seed: of all three runs, of the teacher and of the draws.
        run: the directory of all this.
        progress: what shows progress.

    Raises:
        ConfigurationError, TaskError: before anything starts, if the parts do not fit together; and where `run` holds
            something that was started with other settings.
    """
    arguments = dict(locals())
    planned = stages(arguments)
    if isinstance(policy, str | Path):
        policy = load(str(policy))
    planned = planned.starting_from(policy)
    planned = check_stages(policy, planned)
    directory, settings = planned.directory, settings_of(arguments, policy)
    check_same(directory, settings)
    _remember(directory, settings)

    cloned = train(**planned.clone)
    if labels is not None:
        _label(directory / COMPARISONS, policy, planned.reinforce, labels)
    second = planned.labelled_fit()
    fitted = fit_reward_model(**second)
    third = {**planned.reinforce, "reward": SavedReward(directory / "reward_model", pessimism=pessimism)}
    start = policy.snapshot("clone")
    drawn = _drawn(directory / "best_of.json", policy, third, samples=max(best_of))
    before = _before(cloned, policy, third)
    reinforced = train(**third)
    report = FeedbackReport(
        directory, before, tuple(course(reinforced, start)), tuple(map(drawn.best_of, sorted(best_of))),
        drawn.proxy_scale, {e.name: e.metric.mean for e in fitted.evaluations()}, _left_out(second["tasks"]),
    )  # fmt: skip
    report.write()
    return report


def settings_of(arguments: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    """What all runs of a call share, as plain data."""
    names = ("tasks", "held_out", "gold_reward", "labels", "seed")
    return {**describe({name: arguments[name] for name in names}), "policy": describe(policy)}


def check_same(directory: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to go on with what was started otherwise; what concerns one run alone is compared by that run.

    Raises:
        ConfigurationError: naming what differs.
        RunError: what stands in the directory cannot be read.
    """
    path = directory / "recipe.json"
    if not path.is_file():
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}.", hint="choose another directory.") from error
    changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
    if changed:
        raise ConfigurationError(
            f"{directory} was started with other settings: {', '.join(changed)}.",
            hint="go on with the same recipe, or choose another directory: run=...",
        )


def _remember(directory: Path, settings: Mapping[str, Any]) -> None:
    """Write down what `check_same` compares, once.

    Raises:
        RunError: the directory cannot be written.
    """
    path = directory / "recipe.json"
    if path.is_file():
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(settings, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error}.", hint="choose another directory.") from error


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there as a whole or not at all."""
    beside = path.with_name(f".{path.name}.partial")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _sampler(policy: Policy, arguments: Mapping[str, Any]) -> LocalSampler:
    """Draws as the reinforced policy will."""
    sampling, limits = arguments.get("sampling") or Sampling(), arguments.get("limits") or Limits()
    return LocalSampler(policy, sampling, limits, seed=arguments["seed"])


def _label(path: Path, policy: Policy, arguments: Mapping[str, Any], labels: Labels) -> None:
    """Let the teacher compare pairs of the policy's answers, if that has not been done."""
    if path.is_file():
        return
    teacher, sampler, tasks = labels.teacher(arguments["seed"]), _sampler(policy, arguments), arguments["tasks"]
    lines: list[str] = []
    with Grader(arguments["watched_reward"], arguments.get("grading")) as gold:
        drawn = 0
        while len(lines) < labels.pairs and drawn < ATTEMPTS * labels.pairs:
            places = range(drawn, drawn + labels.pairs - len(lines))
            drawn = places.stop
            chosen = [tasks[place % len(tasks)] for place in places]
            jobs = [Job(f"pair.{place}", task, 2, None) for place, task in zip(places, chosen, strict=True)]
            trees, _ = gold.grade(sampler.collect(jobs, policy_version=0), tasks.by_id)
            for task, tree in zip(chosen, trees, strict=True):
                first, second = tree.rollouts
                if first.text == second.text or not (_usable(policy, first) and _usable(policy, second)):
                    continue
                query = Query(task, (first.text, second.text), ((first.reward,), (second.reward,)))
                verdict = teacher(query)
                ranks = None if verdict is None else [2 - verdict, 1 + verdict]
                row = {"prompt": task.prompt, "answers": list(query.answers), "ranks": ranks}
                lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    if not lines:
        raise ConfigurationError(
            "The clone gives one answer to every prompt, so there is nothing to compare.",
            hint="clone for fewer steps, or draw at a higher temperature.",
        )
    write_whole(path, "".join(lines))


def _usable(policy: Policy, rollout: Rollout) -> bool:
    """Whether an answer can be compared: it says something, was judged, and fits the context with an end of its own."""
    judged = rollout.outcome is not None and isinstance(rollout.outcome.score, Score)
    if not judged or not rollout.text.strip():
        return False
    prompt = sum(len(segment.tokens) for segment in rollout.segments if segment.source is Source.PROMPT)
    return prompt + len(policy.encode_answer(rollout.text)) <= policy.context_length


def _drawn(path: Path, policy: Policy, arguments: Mapping[str, Any], *, samples: int) -> Drawn:
    """Answers of the clone under both rewards, drawn now unless they were drawn before for the same reward model."""
    proxy: SavedReward = arguments["reward"]
    key = {"reward": proxy.description, "samples": samples}
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["of"] == key:
            return Drawn(kept["proxy"], kept["gold"])
    grading = arguments.get("grading")
    with (
        Grader(reward_for(policy, proxy), grading) as by_proxy,
        Grader(arguments["watched_reward"], grading) as by_gold,
    ):
        drawn = draw(_sampler(policy, arguments), arguments["held_out"], by_proxy, by_gold, samples=samples)
    write_whole(path, json.dumps({"of": key, **asdict(drawn)}) + "\n")
    return drawn


def _left_out(tasks: TaskSet) -> str:
    """Which comparisons could not be used, in words."""
    left_out = getattr(tasks, "left_out", None)
    return str(left_out) if left_out is not None and left_out.count else ""


def _before(cloned: Run, policy: Policy, arguments: Mapping[str, Any]) -> Point:
    """The policy before cloning, as the first run judged it, and what the reward model would have said."""
    trees = cloned.evaluation_trees("held_out", 0)
    with Grader(reward_for(policy, arguments["reward"]), arguments.get("grading")) as grader:
        proxy = judged_again("proxy", averaged("held_out", trees), grader, arguments["held_out"])
    return Point("before", scores(trees), scores(proxy.trees), None)
