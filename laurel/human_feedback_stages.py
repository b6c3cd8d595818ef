"""The three runs of `laurel.rlhf` as the arguments of each, and what can be known of them before the first starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from laurel.errors import ConfigurationError
from laurel.fitting import check_fit_settings, check_fitting, checked_objective, fit_reward_model, usable_judgements
from laurel.policy import Policy, RewardModel, check_exportable
from laurel.preferences import ScriptedTeacher, rankings
from laurel.preflight import check_fit, check_parts
from laurel.recipe import defaults_of, resolve
from laurel.tasks import check_leak
from laurel.training import train
from laurel.tree import Sampling

EVALUATIONS = 10
"""How often the reinforced policy is judged where reinforce.evaluate_every does not say."""

ALGORITHM = {"name": "rloo", "kl": 0.05}
COMPARISONS = "preferences.jsonl"
"""The file below the directory of a run that holds what a teacher said."""

PLAIN = (str, int, float, Mapping, list, tuple, type(None))
"""What a recipe can say; everything else is a part that is there already."""


@dataclass(frozen=True)
class Labels:
    """Comparisons by a teacher who knows the gold reward: a stand-in for people.

    Attributes:
        pairs: how many.
        rationality, mistake, skip_below, equal_within: the teacher's faults, see `laurel.preferences.ScriptedTeacher`.
    """

    pairs: int
    rationality: float | None = None
    mistake: float = 0.0
    skip_below: float | None = None
    equal_within: float | None = None

    def __post_init__(self) -> None:
        if self.pairs < 2:
            raise ConfigurationError(f"labels: {self.pairs} pairs teach nothing.", hint="such as pairs: 500.")
        self.teacher(0)

    def teacher(self, seed: int) -> ScriptedTeacher:
        """Who makes them."""
        faults = {name: value for name, value in asdict(self).items() if name != "pairs"}
        return ScriptedTeacher(**faults, seed=seed)


@dataclass(frozen=True)
class Stages:
    """What `laurel.rlhf` was asked for, run by run.

    Attributes:
        directory: where all of it is kept.
        clone: arguments of `laurel.train`.
        written: what was given for the fit, as data or ready-made, and where a teacher's comparisons will be.
        fit: arguments of `laurel.fit_reward_model`; where a teacher makes the comparisons, `tasks` is None and
            `held_out` as it was given.
        reinforce: arguments of `laurel.train`, paid by the gold reward as long as there is no reward model.
        labels: how a teacher makes the comparisons; None: they are in `fit` already.
    """

    directory: Path
    clone: dict[str, Any]
    written: Mapping[str, Any]
    fit: dict[str, Any]
    reinforce: dict[str, Any]
    labels: Labels | None

    def starting_from(self, policy: Policy) -> Stages:
        """The same with a policy that is loaded."""
        clone, fit, reinforce = ({**run, "policy": policy} for run in (self.clone, self.fit, self.reinforce))
        return replace(self, clone=clone, fit=fit, reinforce=reinforce)

    def labelled_fit(self) -> dict[str, Any]:
        """The arguments of the fit, with the comparisons that a teacher has made by now."""
        if self.labels is None:
            return self.fit
        fixed = {name: self.fit[name] for name in ("policy", "seed", "resume", "progress", "run")}
        return _stage("reward_model", fit_reward_model, self.written, fixed)


def stages(arguments: Mapping[str, Any]) -> Stages:
    """The arguments of the three runs, each checked as its own command checks them; the policy is not looked at.

    Args:
        arguments: all of `laurel.rlhf`, by name.

    Raises:
        ConfigurationError, TaskError: they do not fit together.
    """
    clone, reinforce, labels = arguments["clone"], arguments["reinforce"], arguments["labels"]
    _check(arguments)
    directory = Path(arguments["run"])
    tasks, gold = arguments["tasks"], arguments["gold_reward"]
    common = {"resume": True, **{name: arguments[name] for name in ("policy", "seed", "progress")}}
    judged = {**common, "held_out": arguments["held_out"], "run": directory / "clone"}
    drawn_alike = {name: reinforce[name] for name in ("sampling", "limits", "grading") if name in reinforce}
    imitate = {"algorithm": "clone", "tasks": tasks, **drawn_alike, **clone}
    first = _stage("clone", train, imitate, {**judged, "reward": gold})
    fixed = {**judged, "tasks": tasks, "watched_reward": gold, "run": directory / "reinforce"}
    third = _stage("reinforce", train, {"algorithm": ALGORITHM, **reinforce}, {**fixed, "reward": gold})
    third.setdefault("evaluate_every", max(1, third.get("steps", 100) // EVALUATIONS))
    _check_held(third)
    written = _comparisons(directory, labels, arguments["reward_model"])
    fit = {**common, "run": directory / "reward_model"}
    second = _stage("reward_model", fit_reward_model, written, fit) if labels is None else _unlabelled(written, fit)
    with _of_stage("reward_model"):
        if labels is None:
            check_fitting(second)
            second |= usable_judgements(None, second)
            checked_objective(second["objective"], second["tasks"], second["held_out"])
        else:
            _check_unlabelled(second, labels)
    _check_pessimism(arguments["pessimism"], second["members"])
    return Stages(directory, first, written, second, third, labels)


def check_stages(policy: Policy, planned: Stages) -> Stages:
    """Refuse what one of the runs would refuse once it reads texts as this policy does.

    Returns:
        the same, without comparisons that the policy cannot read.

    Raises:
        ConfigurationError, TaskError, PolicyError: naming it.
    """
    for run in (planned.clone, planned.reinforce):
        check_fit(policy, {**defaults_of(train), **run})
    check_exportable(RewardModel(policy))
    if planned.labels is not None:
        return planned
    return replace(planned, fit=planned.fit | usable_judgements(policy, planned.fit))


def _check(arguments: Mapping[str, Any]) -> None:
    check_leak(arguments["tasks"], arguments["held_out"])
    best_of = arguments["best_of"]
    if not best_of or min(best_of) < 1:
        raise ConfigurationError(f"best_of={list(best_of)} is no list of numbers from 1.", hint="such as [1, 4, 16].")
    if any(arguments[name].get("environment") is not None for name in ("clone", "reinforce")):
        raise ConfigurationError(
            "'environment': a reward model of comparisons judges single answers.", hint="remove it."
        )


def _check_held(reinforce: Mapping[str, Any]) -> None:
    """The clone holds the policy, and how far it has gone from there can be measured."""
    algorithm = reinforce["algorithm"]
    if not algorithm.needs_reference:
        raise ConfigurationError(
            f"reinforce: '{algorithm.name}' would not be held to the clone by a KL.",
            hint="such as algorithm: {name: rloo, kl: 0.05}.",
        )
    judged_by = reinforce.get("evaluation_sampling") or reinforce.get("sampling") or Sampling()
    if judged_by.truncates:
        raise ConfigurationError(
            "reinforce: held-out answers would be drawn from a truncated distribution, whose KL from the clone cannot "
            "be measured.",
            hint="leave top_k, top_p and min_p out of sampling, or add evaluation_sampling: {temperature: 1.0}.",
        )


def _check_pessimism(pessimism: float, members: int) -> None:
    if not pessimism >= 0 or (pessimism and members == 1):
        raise ConfigurationError(
            f"pessimism={pessimism} makes no sense for {members} reward model{'s' if members > 1 else ''}.",
            hint="it is at least 0, and needs an ensemble: reward_model: {members: 3, ...}.",
        )


def _stage(
    name: str,
    target: Callable[..., Any],
    given: Mapping[str, Any],
    fixed: Mapping[str, Any],
) -> dict[str, Any]:
    """The arguments of one run: what the recipe gives for it, as data or ready-made, and what is fixed for all.

    Those of a fit are complete, with what was left out.
    """
    twice = sorted(given.keys() & fixed.keys())
    if twice:
        raise ConfigurationError(
            f"{name}: '{twice[0]}' is set for all runs together.", hint=f"write it above '{name}', or leave it out."
        )
    ready = {key: value for key, value in given.items() if not isinstance(value, PLAIN)}
    data = {**given, **dict.fromkeys((*fixed, *ready))}
    with _of_stage(name):
        resolved = resolve({k: v for k, v in data.items() if k != "progress"}, target, leave_out=(*fixed, *ready))
        arguments = {**resolved, **ready, **fixed}
        if target is train:
            check_parts({**defaults_of(train), **arguments}, defaults_of(train))
            return arguments
    return {**defaults_of(target), **arguments}


@contextmanager
def _of_stage(name: str) -> Iterator[None]:
    """Errors of settings say which run they are about."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error.message.removeprefix('recipe: ')}", hint=error.hint) from error


def _comparisons(directory: Path, labels: Labels | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given for the fit; without a file of their own its comparisons are those that a teacher will make."""
    if (labels is None) == ("tasks" not in given):
        raise ConfigurationError(
            "The comparisons come from reward_model.tasks or from labels, from one of them.",
            hint="such as labels: {pairs: 500}, or reward_model: {tasks: {name: pairs, path: pairs.jsonl}, ...}.",
        )
    made = {"name": "rankings", "path": str(directory / COMPARISONS), "ranks": "ranks"}
    return {"tasks": made, **given}


def _unlabelled(written: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a fit to comparisons that are still to be made."""
    held_out = written.get("held_out")
    splits = isinstance(held_out, int | float) and not isinstance(held_out, bool)
    others = {key: value for key, value in written.items() if key != "tasks" and not (splits and key == "held_out")}
    resolved = _stage("reward_model", fit_reward_model, others, {**fixed, "tasks": None})
    return {**resolved, "held_out": held_out} if splits else resolved


def _check_unlabelled(fit: Mapping[str, Any], labels: Labels) -> None:
    """What can be said of a fit before its comparisons are made."""
    check_fit_settings(fit)
    held_out = fit["held_out"]
    if isinstance(held_out, int | float) and not 0 < held_out_of(held_out, labels.pairs) < labels.pairs:
        raise ConfigurationError(
            f"held_out={held_out} of {labels.pairs} comparisons leaves one side empty.", hint="such as held_out: 0.1."
        )
    if fit["objective"] is not None:
        example = rankings(rows=[{"prompt": "?", "answers": ["a", "b"], "ranks": [1, 2]}], ranks="ranks")
        checked_objective(fit["objective"], example, None)


def held_out_of(held_out: int | float, count: int) -> int:
    """How many of `count` comparisons are held out, about: equal prompts stay together."""
    return held_out if isinstance(held_out, int) else round(held_out * count)
