"""What was found of a recipe before it runs, and the looks that several kinds of recipe have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laurel.errors import LaurelError, PolicyError, TaskError
from laurel.lengths import newly_left_out
from laurel.policy import Policy
from laurel.preferences import PreferenceSet
from laurel.preflight import check_fit, path_limit
from laurel.recipe import component, policies
from laurel.rewards import GradingSettings, Reward, try_reward
from laurel.tasks import Task
from laurel.tree import Failed, Score

SHOWN_TAIL = 60


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        about: which part of the recipe.
        text: what was found.
        sound: None where it could not be looked at, which the text explains.
    """

    about: str
    text: str
    sound: bool | None = True

    def __str__(self) -> str:
        mark = {True: "ok", False: "WRONG", None: "not checked"}[self.sound]
        first, *more = self.text.splitlines()
        return "\n".join([f"{self.about}: {mark}: {first}", *(f"  {line}" for line in more)])


@dataclass(frozen=True)
class Checked:
    """What `check` found, in the order of a run."""

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong; what could not be checked is not."""
        return all(finding.sound is not False for finding in self.findings)

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings))


def found_policy(value: Any) -> tuple[Policy | None, list[Finding]]:
    """The policy, if it can be loaded here: the model of a hub may be out of reach, what lies here should load."""
    if isinstance(value, Policy):
        return value, []
    try:
        policy = component("policy", policies(), str(value) if isinstance(value, Path) else value)
    except PolicyError as error:
        name = value.get("name_or_directory", "") if isinstance(value, Mapping) else str(value)
        sound = False if Path(str(name)).exists() else None
        return None, [Finding("policy", f"{error.message}\n{error.hint}\nso no prompt was encoded", sound)]
    assert isinstance(policy, Policy)
    return policy, []


def left_out(name: str, tasks: object) -> list[Finding]:
    """Rows of preferences that cannot be used, counted by what is wrong with them."""
    if not isinstance(tasks, PreferenceSet) or not tasks.left_out.count:
        return []
    return [Finding(name, f"{len(tasks)} tasks; {tasks.left_out}")]


def wrong(about: str, error: LaurelError) -> Finding:
    """An error that a run would stop with."""
    return Finding(about, f"{error.message}\n{error.hint}", False)


def tried(
    about: str, sets: Sequence[Sequence[Task]], reward: Reward, *, gold: str, settings: GradingSettings | None
) -> Finding:
    """A reward that knows no full marks, on gold answers and the empty one: whether it says something of each."""
    said = [found for tasks in sets for found in try_reward(tasks, reward, gold=gold, settings=settings)]
    faults = [
        f"{probe.task.id}: {probe.kind} answer {probe.text[-SHOWN_TAIL:]!r}: {result.reason}"
        for probe, result in said
        if isinstance(result, Failed)
    ]
    if faults:
        return Finding(about, "\n".join([f"{len(faults)} of {len(said)} answers could not be judged:", *faults]), False)
    values = [result.value for _, result in said if isinstance(result, Score)]
    return Finding(about, f"{len(said)} answers were judged, from {min(values):g} to {max(values):g}")


def prompts_read(about: str, policy: Policy, settings: Mapping[str, Any]) -> Finding:
    """Whether the policy can read every prompt of a run, in the room that there is."""
    task = settings["tasks"][0]
    try:
        usable = check_fit(policy, settings)
        end = str(policy.tokenizer.decode(policy.encode_prompt(task.prompt)))[-SHOWN_TAIL:]
    except (TaskError, PolicyError) as error:
        return wrong(about, error)
    how = "as plain text" if isinstance(task.prompt, str) else "under the policy's chat template"
    room = path_limit(policy, settings)
    told = f"all are tokens {how}, and fit a path of {room}; {task.id} ends in {end!r}"
    return Finding(about, "\n".join([told, *newly_left_out(settings, usable)]))
