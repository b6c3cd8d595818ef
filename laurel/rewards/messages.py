"""What travels between this process and its graders: JSON, so that nothing that comes from a grader is unpickled."""

from __future__ import annotations

import functools
import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from laurel.errors import RewardError, TaskError
from laurel.rewards.reward import Reward, Subject
from laurel.tasks.task import Message, Task
from laurel.tree import Ending, Failed, Outcome, Rollout, Score, Segment, Source, Tree


def request(task: Task, subject: Subject) -> bytes:
    """One grading job as a line.

    Raises:
        TaskError: if the task's data is no JSON.
    """
    content: dict[str, Any] = {"id": task.id, "prompt": task.prompt, "reference": task.reference}
    try:
        content["data"] = dict(task.data)
        job = {"task": content, "text": subject.text, "rollout": subject.rollout and _path(subject.rollout)}
        return json.dumps(job).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise TaskError(
            f"The data of task {task.id} cannot be sent to a grader: {error}.", hint="keep to what JSON can hold."
        ) from error


def read_request(line: bytes) -> tuple[Task, Subject]:
    """The job of one line, in the worker."""
    job = json.loads(line)
    content = job["task"]
    prompt = content["prompt"]
    if not isinstance(prompt, str):
        prompt = tuple(Message(role=item["role"], content=item["content"]) for item in prompt)
    task = Task(content["id"], prompt, content["reference"], content["data"])
    return task, Subject(job["text"], job["rollout"] and _rollout(job["rollout"]))


def reply(result: Score | Failed) -> bytes:
    """One result as a line."""
    if isinstance(result, Failed):
        return json.dumps({"failed": result.reason}).encode() + b"\n"
    parts = {str(name): float(value) for name, value in result.parts.items()}
    return json.dumps({"value": float(result.value), "parts": parts}).encode() + b"\n"


def read_reply(line: bytes) -> Score | Failed:
    """The result of one line. A worker that runs a user's code is not trusted to keep to the form."""
    try:
        result = json.loads(line)
        if "failed" in result:
            return Failed(str(result["failed"]))
        value = float(result["value"])
        parts = {str(name): float(part) for name, part in result["parts"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Failed(f"the grader's worker answered {line[:80]!r}")
    if not all(map(math.isfinite, (value, *parts.values()))):
        return Failed("the grader's worker answered a number that is not finite")
    return Score(value, parts)


def address(reward: Reward) -> dict[str, Any] | None:
    """How a fresh process finds this reward, as JSON; None for closures, lambdas and what `__main__` defines."""
    if is_dataclass(reward) and not isinstance(reward, type):
        kind = address(type(reward))
        if kind is None:
            return None
        settings = {field.name: getattr(reward, field.name) for field in fields(reward)}
        if "parts" in settings:
            parts = {name: (address(part), weight) for name, (part, weight) in settings["parts"].items()}
            return None if any(part is None for part, _ in parts.values()) else {**kind, "parts": parts}
        plain = all(value is None or isinstance(value, str | int | float) for value in settings.values())
        return {**kind, "settings": settings} if plain else None
    module, name = getattr(reward, "__module__", None), getattr(reward, "__qualname__", None)
    if not module or not name or module == "__main__" or "<" in name:
        return None
    found = _found(module, name)
    return {"module": module, "name": name} if found is reward else None


def find(place: Mapping[str, Any]) -> Reward:
    """The reward at an address, in the worker."""
    found: Any = functools.reduce(getattr, place["name"].split("."), importlib.import_module(place["module"]))
    if "parts" in place:
        return found({name: (find(part), weight) for name, (part, weight) in place["parts"].items()})  # type: ignore[no-any-return]
    return found(**place["settings"]) if "settings" in place else found  # type: ignore[no-any-return]


def _found(module: str, name: str) -> object:
    try:
        return functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return None


def _path(rollout: Rollout) -> dict[str, Any]:
    outcome = rollout.outcome
    if outcome is None:
        raise RewardError(f"Rollout {rollout.id} has not ended.", hint="grade rollouts after sampling.")
    segments = [
        {
            "source": int(segment.source),
            "tokens": segment.tokens.tolist(),
            "text": segment.text,
            "reward": segment.reward,
            "policy_version": segment.policy_version,
            "rollout_id": segment.rollout_id,
            "log_probs": None if segment.sampler_log_probs is None else segment.sampler_log_probs.tolist(),
        }
        for segment in rollout.segments
    ]
    ending = {"ending": outcome.ending.value, "stop_reason": outcome.stop_reason}
    return {"tree": rollout.tree.id, "task": rollout.tree.task_id, "segments": segments, **ending}


def _rollout(content: Mapping[str, Any]) -> Rollout:
    outcome = Outcome(Ending(content["ending"]), content["stop_reason"])
    last = len(content["segments"]) - 1
    segments = tuple(
        Segment(
            source=Source(item["source"]),
            tokens=np.array(item["tokens"]),
            parent=index - 1,
            text=item["text"],
            sampler_log_probs=None if item["log_probs"] is None else np.array(item["log_probs"], np.float32),
            policy_version=item["policy_version"],
            reward=item["reward"],
            outcome=outcome if index == last else None,
            rollout_id=item["rollout_id"],
        )
        for index, item in enumerate(content["segments"])
    )
    return Rollout(Tree(content["tree"], content["task"], segments), last)
