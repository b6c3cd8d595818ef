"""Reward models on the disk as a reward: one directory, or several below one as an ensemble.

    DIRECTORY/config.json, model.safetensors, ...       a classifier of one label: see `laurel.policy.reward_files`
    DIRECTORY/ensemble.json, member-0/, member-1/, ...  several, with what each says more or less than the others

A run of `laurel.fit_reward_model` keeps either below its own directory, as `model`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from laurel.errors import ConfigurationError, PolicyError
from laurel.policy.certainty import Certainty
from laurel.policy.fingerprint import fingerprint as fingerprint_of
from laurel.policy.learned_reward import LearnedReward
from laurel.policy.policy import Policy, Reference
from laurel.policy.read_rollouts import RolloutReader
from laurel.policy.reward_ensemble import RewardEnsemble
from laurel.policy.reward_files import export_reward_model, load_reward_model
from laurel.policy.reward_model import RewardModel
from laurel.rewards import Reward
from laurel.rewards.weighted import Weighted
from laurel.tasks.task import Task
from laurel.tree import Failed, Rollout, Score

ENSEMBLE = "ensemble.json"
MODEL = "model"
"""The directory below a run that holds what it fitted."""


def export_reward_models(models: Sequence[RewardModel], directory: str | Path, *, offsets: Sequence[float]) -> None:
    """Write one reward model, or several as an ensemble, and put them in place at once when all of it is written.

    Args:
        models: each is written by `export_reward_model`.
        directory: replaced where it is there already.
        offsets: of several, what `RewardEnsemble` takes off each.

    Raises:
        PolicyError: see `export_reward_model`; what was in the directory is then still there.
    """
    directory = Path(directory)
    beside = directory.with_name(f".{directory.name}.partial")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        if len(models) == 1:
            export_reward_model(models[0], beside)
        else:
            names = [f"member-{number}" for number in range(len(models))]
            for name, model in zip(names, models, strict=True):
                export_reward_model(model, beside / name)
            listed = {"members": names, "offsets": list(offsets)}
            (beside / ENSEMBLE).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(directory, ignore_errors=True)
        beside.rename(directory)
    except OSError as error:
        raise PolicyError(f"Cannot write {directory}: {error}.", hint="choose another directory.") from error


class SavedReward:
    """What saved reward models say: of one model its score, of several `laurel.policy.pessimistic` of theirs.

        reward: runs/reward-model                                        in a recipe, or
        reward: {name: reward_model, model: runs/reward-model, pessimism: 1.0}

    `laurel.train` lets them read the tokens that its policy writes, see `LearnedReward`, and refuses a model that would
    read them as something else. Called without a policy they read texts.

    Args:
        model: a directory, or a finished run of `laurel.fit_reward_model`.
        pessimism: of several: how many deviations between them are taken off their mean. Of two, 1 is the lower one.
        fingerprint: what the files must be (as a run records them); None: whatever they are.

    Raises:
        ConfigurationError: no reward model is there, or a setting that it would not read.
        PolicyError: the files are others than the fingerprint says.
    """

    runs_in_process = True

    def __init__(self, model: str | Path, *, pessimism: float = 0.0, fingerprint: str | None = None) -> None:
        self.model = str(model)
        self.pessimism = pessimism
        self.directories, self.offsets = _members(_place(Path(model)))
        if not pessimism >= 0 or (pessimism and len(self.directories) == 1):
            raise ConfigurationError(
                f"pessimism={pessimism} makes no sense for {len(self.directories)} reward model(s).",
                hint="it is at least 0, and needs an ensemble: fit one with members: 3.",
            )
        marks = [fingerprint_of(str(directory)) for directory in self.directories]
        self.fingerprint = marks[0] if len(marks) == 1 else hashlib.sha256("".join(marks).encode()).hexdigest()
        if fingerprint not in (None, self.fingerprint):
            raise PolicyError(
                f"{model} holds another reward model than it did: {self.fingerprint[:12]}... now, "
                f"{str(fingerprint)[:12]}... then.",
                hint="put the one that was used back, or start a new run.",
            )

    @property
    def description(self) -> dict[str, Any]:
        """What a run records of it."""
        kept = {"model": self.model, "pessimism": self.pessimism, "fingerprint": self.fingerprint}
        return {"type": type(self).__name__, **kept}

    @cached_property
    def models(self) -> tuple[RewardModel, ...]:
        """Loaded when they are first asked for."""
        return tuple(map(load_reward_model, self.directories))

    def read_for(self, writer: Policy | None) -> RolloutReader | RewardEnsemble:
        """The reward of what this policy writes; None: of texts."""
        members = tuple(LearnedReward(model, writer=writer) for model in self.models)
        return members[0] if len(members) == 1 else RewardEnsemble(members, self.pessimism, self.offsets)

    @cached_property
    def _of_texts(self) -> RolloutReader | RewardEnsemble:
        return self.read_for(None)

    def __call__(self, task: Task, rollout: Rollout) -> Score | Failed:
        return self._of_texts(task, rollout)

    def score_rollouts(self, asked: Sequence[tuple[Task, Rollout]]) -> list[Score | Failed]:
        """One result per rollout, in their order."""
        return self._of_texts.score_rollouts(asked)


def as_reward(reward: Any) -> Any:
    """A reward from what may stand in its place: a reward model, or the directory of a saved one."""
    if isinstance(reward, RewardModel):
        return LearnedReward(reward)
    return SavedReward(reward) if isinstance(reward, str | Path) else reward


def reward_for(policy: Policy, reward: Any, start: Reference | None = None) -> Any:
    """The reward as it reads what this policy writes: what reads its tokens is bound to it, all else is as it was.

    Args:
        reward: of a weighted one each part.
        start: the policy as it was at the start of the run, for rewards that ask it; None: as it is now.
    """
    if isinstance(reward, Certainty):
        return reward.read_for(policy, start)
    if isinstance(reward, RolloutReader) and not reward.reads_tokens:
        return reward.read_for(policy)
    if isinstance(reward, SavedReward):
        return reward.read_for(policy)
    if isinstance(reward, Weighted):
        bound = {name: (reward_for(policy, own, start), by) for name, (own, by) in reward.parts.items()}
        return replace(reward, parts=bound)
    return reward


def asks_start(reward: Any) -> bool:
    """Whether the reward, or a part of it, asks the policy as it was at the start of the run."""
    parts = getattr(reward, "rewards", ())
    return (isinstance(reward, Certainty) and reward.frozen) or any(map(asks_start, parts))


def reward_models_in(reward: Reward | None) -> list[RewardModel]:
    """Those that a reward asks, also in its parts."""
    if isinstance(reward, LearnedReward):
        return [reward.model]
    if isinstance(reward, RewardEnsemble):
        return [member.model for member in reward.members]
    if isinstance(reward, SavedReward):
        return list(reward.models)
    return [model for part in getattr(reward, "rewards", ()) for model in reward_models_in(part)]


def _place(path: Path) -> Path:
    for candidate in (path, path / MODEL):
        if (candidate / ENSEMBLE).is_file() or (candidate / "config.json").is_file():
            return candidate
    raise ConfigurationError(
        f"There is no reward model in {path}.",
        hint="give a directory that `laurel fit-reward-model` or `laurel export` wrote; a run must be finished.",
    )


def _members(place: Path) -> tuple[tuple[Path, ...], tuple[float, ...]]:
    if not (place / ENSEMBLE).is_file():
        return (place,), (0.0,)
    try:
        listed = json.loads((place / ENSEMBLE).read_text(encoding="utf-8"))
        directories = tuple(place / str(name) for name in listed["members"])
        return directories, tuple(map(float, listed["offsets"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{place / ENSEMBLE} cannot be read: {error!r}.", hint="export the ensemble again."
        ) from error
