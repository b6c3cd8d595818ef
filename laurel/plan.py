"""What one run of training would do, said before it starts: the method, the settings, the batch, memory and time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from laurel.algorithms import METHODS, Algorithm, Asked, TrustRegion
from laurel.asked import found_expert
from laurel.batch_plan import Batch, derive
from laurel.collapse import watch_for
from laurel.configuration import describe
from laurel.costs import FISHER_PASSES, memory_rows, time_rows
from laurel.learner import CriticSettings, OptimiserSettings, RecoverySettings
from laurel.page import Page
from laurel.policy import Policy, as_reward, load
from laurel.preferences import Preference, PreferenceSet
from laurel.preflight import check_fit, check_parts, unread_arguments
from laurel.recipe import defaults_of
from laurel.rewards import GradingSettings
from laurel.rollout import Limits
from laurel.tasks import TaskSet
from laurel.training import SAMPLES_PER_PROMPT, loaded_teacher, train
from laurel.tree import Sampling

PROMPTS_LOOKED_AT = 64


def training_account(
    arguments: Mapping[str, Any], *, said: Mapping[str, str] | None = None, beside: Mapping[str, int] | None = None
) -> RenderableType:
    """A readable account of what `laurel.train` would do with these arguments.

    Args:
        said: settings in words, of what is not there yet.
        beside: what is in memory beside the run, in bytes.

    Raises:
        LaurelError: what training would refuse before it starts.
    """
    defaults = defaults_of(train)
    settings = {**defaults, **arguments}
    settings |= {name: as_reward(settings[name]) for name in ("reward", "held_out_reward", "watched_reward")}
    check_parts(settings, defaults)
    algorithm: Algorithm = settings["algorithm"]
    policy = loaded(settings["policy"])
    settings |= check_fit(policy, settings)
    if settings["teacher"] is not None:
        settings["teacher"] = loaded_teacher(policy, settings["teacher"])
    if settings["expert"] is not None:
        settings["expert"] = found_expert({**settings, "policy": policy})
    batch = derive(policy, settings)
    return Group(
        card(f"{algorithm.name}: {algorithm.title}", [*_story(algorithm), *_choices(algorithm)]),
        card("settings", _settings(settings, said or {})),
        card("what there is to learn from", _available(algorithm, settings)),
        card("each step", [*_batch(batch, settings["steps"], algorithm), *_region(algorithm)]),
        card("memory, estimated", memory_rows(policy, algorithm, batch, settings, beside)),
        card("time, estimated", time_rows(policy, algorithm, batch, settings)),
    )


def loaded(policy: Policy | str | Path) -> Policy:
    """The policy itself, or what its name or directory stands for."""
    return policy if isinstance(policy, Policy) else load(str(policy))


def methods() -> Page:
    """Every method by name, with its equation, its paper and its settings."""
    return Page(Group(*(method_card(METHODS[name]) for name in sorted(METHODS))))


def method_card(method: Callable[..., Algorithm]) -> RenderableType:
    """A named method with its equation, its paper and its settings, under their defaults."""
    algorithm = method()
    parameters = inspect.signature(method).parameters.values()
    settings = ", ".join(f"{parameter.name}={parameter.default}" for parameter in parameters)
    return card(f"{algorithm.name}: {algorithm.title}", [*_story(algorithm), ("settings", settings or "none")])


def card(title: str, rows: Iterable[tuple[str, str]]) -> RenderableType:
    """A title over labelled texts, which stay readable where they are wrapped."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for label, text in rows:
        grid.add_row(Text(f"  {label}"), Text(text))
    return Group(Text(title, style="bold"), grid, Text())


def _story(algorithm: Algorithm) -> list[tuple[str, str]]:
    return [
        ("maximises", algorithm.equation),
        ("paper", algorithm.paper),
        ("deviations", algorithm.deviations),
    ]


def _choices(algorithm: Algorithm) -> list[tuple[str, str]]:
    rows = []
    for part in ("source", "penalties", "credit", "objective", "regularisers", "reduction", "step"):
        value = getattr(algorithm, part)
        rows.append((part, ", ".join(map(shortly, value)) or "none" if isinstance(value, tuple) else shortly(value)))
    return rows


def _settings(settings: Mapping[str, Any], said: Mapping[str, str]) -> list[tuple[str, str]]:
    """Every setting as it will be; one that nobody reads says why."""
    unread = unread_arguments(settings)
    meant = {
        "samples_per_prompt": SAMPLES_PER_PROMPT,
        "sampling": Sampling(),
        "evaluation_sampling": "as sampling",
        "limits": Limits(),
        "optimiser": OptimiserSettings(),
        "critic": CriticSettings(),
        "recovery": RecoverySettings(),
        "grading": GradingSettings(),
        "curriculum": "none: every task as often as every other",
        "evaluate_every": "before the first step and after the last",
        "tokens_per_microbatch": "chosen by device",
        "environment": "none: one answer",
        "teacher": "none",
        "expert": "none",
        "held_out": "none",
        "held_out_reward": "the reward",
        "reward": "from the environment" if settings["environment"] is not None else "none",
    }
    told = {**{name: f"not read: {why}" for name, why in unread.items()}, **said}
    shown = {name: value for name, value in settings.items() if name not in ("algorithm", "progress", "resume")}
    shown["alarm"] = watch.alarm if (watch := watch_for(settings)) else "off"
    return setting_rows(shown, meant, told)


def setting_rows(
    settings: Mapping[str, Any], meant: Mapping[str, Any], said: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Settings on one line each.

    Args:
        meant: what None stands for.
        said: those that are told in words.
    """
    rows = []
    for name, value in settings.items():
        if name in said:
            rows.append((name, said[name]))
        elif isinstance(value, TaskSet):
            left_out = f"; {value.left_out}" if isinstance(value, PreferenceSet) and value.left_out.count else ""
            rows.append((name, f"{value.name}: {len(value):,} tasks{left_out}"))
        else:
            rows.append((name, shortly(meant.get(name) if value is None else value)))
    return rows


def _available(algorithm: Algorithm, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    looked_at = list(settings["tasks"])[:PROMPTS_LOOKED_AT]
    parts = {
        "an expert to ask": settings["expert"] is not None,
        "reward": settings["reward"] is not None or settings["environment"] is not None,
        "demonstrations or gold answers": all(task.reference is not None for task in looked_at),
        "judged answers": all(isinstance(task, Preference) for task in looked_at),
        "dynamics (an environment that answers)": settings["environment"] is not None,
        "held-out tasks": settings["held_out"] is not None,
        "accelerator": torch.cuda.is_available(),
    }
    rows = [("available" if present else "missing", name) for name, present in parts.items()]
    if algorithm.needs_teacher:
        rows.append(("available", "reference: the teacher, which never changes"))
    elif algorithm.needs_reference:
        rows.append(("available", "reference: the policy at the start of the run, kept unchanged"))
    return rows


def _batch(batch: Batch, steps: int, algorithm: Algorithm) -> list[tuple[str, str]]:
    saved = batch.row_tokens / batch.distinct_tokens
    times = "time" if batch.optimiser_steps == 1 else "times"
    extra = batch.continuations // batch.rollouts
    branches = [
        (
            "continuations",
            f"at most {extra} of each sample = {batch.continuations:,} a step: drawn and graded to see what its steps "
            f"were worth, and not learned from; at most {batch.continuations * batch.answer_tokens:,} tokens",
        )
    ]
    return [
        ("rollouts", f"{batch.prompts} prompts x {batch.samples} samples = {batch.rollouts}, {steps:,} steps"),
        *_asked(algorithm.source, steps),
        *(branches if batch.continuations else ()),
        ("learned from", f"{batch.optimiser_steps} {times} (optimiser steps per batch)"),
        (
            "tokens",
            f"at most {batch.distinct_tokens:,} distinct ones (prompt {batch.prompt_tokens:,}, answer "
            f"{batch.answer_tokens:,}); row by row {batch.row_tokens:,}, {saved:.1f} times as many",
        ),
    ]


def _asked(source: object, steps: int) -> list[tuple[str, str]]:
    """How often an expert is asked, and what is learned from its answers."""
    if not isinstance(source, Asked):
        return []
    rounds = -(-steps // source.round_steps)
    most = "any number of" if source.queries is None else f"at most {source.queries:,}"
    drawn = f"drawn in the first of every {source.round_steps} steps, " if source.round_steps > 1 else ""
    return [
        ("expert", f"{most} questions in {rounds:,} rounds; {drawn}and not any more when the budget is used up"),
        (
            "aggregate",
            f"each step learns from {source.prompts_per_update} of all prompts so far, with every answer",
        ),
    ]


def _region(algorithm: Algorithm) -> list[tuple[str, str]]:
    """What a trust region promises, and what it costs."""
    region = algorithm.step
    if not isinstance(region, TrustRegion):
        return []
    return [
        (
            "trust region",
            f"the measured KL(old, now) stays within {region.maximum_kl:g} nats per token; a step that does not "
            f"improve the surrogate there after {region.halvings} halvings is refused",
        ),
        (
            "its cost",
            f"at most {region.iterations} + 1 products with the Fisher matrix (damping {region.damping:g}), about "
            f"{FISHER_PASSES} forward passes each, and 2 forward passes for every length of the step that is tried",
        ),
    ]


def shortly(value: Any) -> str:
    """A value on one line: what `describe` says of it, as name(key=value)."""
    described = str(value) if isinstance(value, Path) else describe(value)
    if isinstance(described, Mapping):
        fields = dict(described)
        name = fields.pop("type", fields.pop("name", ""))
        return f"{name}({', '.join(f'{key}={shortly(item)}' for key, item in fields.items())})"
    if isinstance(described, list):
        return "(" + ", ".join(map(shortly, described)) + ")" if described else "none"
    if isinstance(described, str) and not described.isprintable():
        return repr(described)
    return "none" if described is None else str(described)
