"""The policy that a run trained, and how it was judged, built again from what the run recorded."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laurel.environments import ENVIRONMENTS, Environment
from laurel.errors import ConfigurationError, RunError
from laurel.fitting import KIND, export_of_fit
from laurel.policy import Policy
from laurel.policy.fingerprint import check_frozen
from laurel.recipe import arguments, component, policies, rewards
from laurel.rewards import GradingSettings, Reward
from laurel.rollout import Limits
from laurel.runs import Run, is_run
from laurel.tree import Sampling


@dataclass(frozen=True)
class Judgement:
    """How answers are drawn and graded in an evaluation. The defaults are those of a model without a run.

    Attributes:
        reward: None: the environment pays.
        environment: None: one answer.
    """

    sampling: Sampling = field(default_factory=Sampling)
    limits: Limits = field(default_factory=Limits)
    grading: GradingSettings = field(default_factory=GradingSettings)
    reward: Reward | None = None
    environment: Environment | None = None
    samples: int = 1
    seed: int = 0


def judgement_of_run(directory: Path, *, reward: Reward | None = None) -> Judgement:
    """How the run's held-out tasks are judged: equal weights and tasks get equal scores.

    Args:
        reward: instead of the run's own.

    Raises:
        RunError: if the run's reward or environment is a Python object that its record cannot make again.
    """
    with Run.open(directory) as run:
        kept = run.configuration
    _has_a_policy(directory, kept)

    def settings(name: str, kind: type) -> Any:
        recorded = {key: value for key, value in (kept.get(name) or {}).items() if key != "type"}
        return kind(**arguments(name, kind, recorded))

    judge = "held_out_reward" if kept.get("held_out_reward") is not None else "reward"
    if reward is None and kept.get(judge) is not None:
        reward = _again("reward", rewards(), kept[judge], directory)
    environment = kept.get("environment")
    return Judgement(
        sampling=settings("evaluation_sampling" if kept.get("evaluation_sampling") else "sampling", Sampling),
        limits=settings("limits", Limits),
        grading=settings("grading", GradingSettings),
        reward=reward,
        environment=None if environment is None else _again("environment", ENVIRONMENTS, environment, directory),
        samples=kept["evaluation_samples"],
        seed=kept["seed"],
    )


def _again(kind: str, makers: Mapping[str, Callable[..., Any]], recorded: Any, directory: Path) -> Any:
    """A named component from its description; what is not one of ours was described by where it can be found."""
    name = recorded.get("type") if isinstance(recorded, dict) else None
    for maker in makers.values():
        made = maker if isinstance(maker, type) else typing.get_type_hints(maker).get("return")
        if name is not None and getattr(made, "__name__", None) == name:
            settings = {key: value for key, value in recorded.items() if key != "type"}
            if kind == "environment" and "environment" in settings:
                settings["environment"] = _again(kind, makers, settings["environment"], directory)
            if "goals" in settings:
                goals = settings["goals"].items()
                settings["goals"] = {goal: {k: v for k, v in own.items() if k != "type"} for goal, own in goals}
            if "parts" in settings:
                parts = settings["parts"].items()
                settings["parts"] = {part: (_again(kind, makers, own, directory), by) for part, (own, by) in parts}
            if kind == "environment" and settings.get("reward") is not None:
                settings["reward"] = _again("reward", rewards(), settings["reward"], directory)
            return maker(**arguments(f"{kind} '{name}'", maker, settings))
    if isinstance(recorded, str) and ":" in recorded and "<" not in recorded and not recorded.startswith("__main__"):
        return component(kind, makers, recorded)
    raise RunError(
        f"The {kind} of the run {directory} cannot be made again from its record: {recorded}.",
        hint="name it: --reward package.module:function." if kind == "reward" else "evaluate in Python instead.",
    )


def _has_a_policy(directory: str | Path, configuration: Mapping[str, Any]) -> None:
    if configuration.get("kind") == KIND:
        raise RunError(
            f"The run {directory} fitted a reward model, and trained no policy.",
            hint=f"use it as a reward: reward: {directory}",
        )


def export(run: str | Path, directory: str | Path) -> Path:
    """Write the newest weights of a run as a directory that `AutoModelForCausalLM.from_pretrained` loads.

    Of a finished fit of reward models: what it saved, which `AutoModelForSequenceClassification` loads.

    Returns:
        the directory.

    Raises:
        ConfigurationError: if the directory is a run itself.
        RunError, PolicyError: see `policy_of_run` and `Policy.export`.
    """
    if is_run(directory):
        raise ConfigurationError(f"{directory} is a run.", hint="export into a directory of its own.")
    with Run.open(run) as opened:
        kind = opened.configuration.get("kind")
    if kind == KIND:
        return export_of_fit(run, directory)
    policy_of_run(run).export(directory)
    return Path(directory)


def policy_of_run(directory: str | Path) -> Policy:
    """The policy of a run with the weights of its newest whole checkpoint.

    Raises:
        RunError: if the run has no checkpoint yet, or was started from a model in memory that cannot be built again.
        PolicyError: if an adapter was trained on a model that is another one now.
    """
    with Run.open(directory) as run:
        _has_a_policy(directory, run.configuration)
        origin = run.configuration["policy"]
        checkpoint = run.load_checkpoint()
    if checkpoint is None:
        raise RunError(f"The run {directory} has no checkpoint yet.", hint="resume it, or wait for its first one.")
    if not isinstance(origin, dict) or origin.get("name") not in policies():
        raise RunError(
            f"The run {directory} was started from a model in memory ({origin}), which cannot be built again.",
            hint="call policy.export(directory) in the program that started it.",
        )
    policy = component("policy", policies(), {key: value for key, value in origin.items() if key != "frozen"})
    assert isinstance(policy, Policy)
    check_frozen(origin, policy.description, f"The run {directory}")
    policy.load_tensors(checkpoint.tensors["policy"])
    return policy
