"""What a fit of reward models would do, said before it starts: likelihood, judgements, tokens, memory and time."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Group, RenderableType

from laurel.costs import activations, added, amount_text, decoder_parameters, duration_rows
from laurel.errors import PolicyError
from laurel.fitting import check_fitting, checked_objective, fit_reward_model, usable_judgements
from laurel.judged import judged
from laurel.learner import OptimiserSettings
from laurel.learner.pass_tokens import PassTokens
from laurel.lengths import prompt_lengths
from laurel.objectives import RewardObjective
from laurel.plan import card, loaded, setting_rows, shortly
from laurel.policy import Policy, RewardModel, check_exportable
from laurel.recipe import defaults_of
from laurel.tasks import TaskSet

FORWARD_AND_BACKWARD = 3
"""Forward passes that a token of a step counts for; a backward pass is twice as dear."""


@dataclass(frozen=True)
class Sizes:
    """Judged answers in numbers.

    Attributes:
        prompts, held_out: how many are learned from, and judged on.
        answers: to one prompt, at most.
        largest, mean: distinct tokens of a prompt with its answers.
        exact: False: these are bounds, for answers that are not there yet.
    """

    prompts: int
    held_out: int
    answers: int
    largest: int
    mean: float
    exact: bool = True


def fit_account(
    arguments: Mapping[str, Any], *, sizes: Sizes | None = None, said: Mapping[str, str] | None = None
) -> RenderableType:
    """A readable account of what `laurel.fit_reward_model` would do with these arguments.

    Args:
        sizes: of judged answers that are not there yet.
        said: settings in words, of what is not there yet.

    Raises:
        LaurelError: what the fit would refuse before it starts.
    """
    settings = {**defaults_of(fit_reward_model), **arguments}
    if sizes is None:
        check_fitting(settings)
    policy = loaded(settings["policy"])
    if sizes is None:
        settings |= usable_judgements(policy, settings)
        tasks, held_out = settings["tasks"], settings["held_out"]
        settings["objective"] = checked_objective(settings["objective"], tasks, held_out)
        sizes = sizes_of(policy, tasks, held_out)
    members = settings["members"]
    model = RewardModel(policy, learns_trunk=settings["learns_trunk"])
    trained = sum(parameter.numel() for parameter in model.trainable_parameters().values())
    title = "a reward model" if members == 1 else f"{members} reward models, an ensemble"
    shown = {name: value for name, value in settings.items() if name not in ("progress", "resume")}
    return Group(
        card(f"{title}, fitted to judged answers", _story(model, settings, sizes)),
        card("settings", setting_rows(shown, _MEANT, said or {})),
        card("each step", _batch(model, settings, sizes)),
        card("memory, estimated", _memory(model, trained, settings, sizes)),
        card("time, estimated", _time(model, settings, sizes)),
    )


_MEANT = {
    "objective": "follows from the judgements",
    "held_out": "none",
    "optimiser": OptimiserSettings(),
    "evaluate_every": "before the first step and after the last",
    "tokens_per_microbatch": "chosen by device",
}


def sizes_of(policy: Policy, tasks: TaskSet, held_out: TaskSet | None) -> Sizes:
    """Judged answers as they are."""
    preferences = [judged(task) for task in tasks]
    lengths = iter(policy.answer_lengths([answer for task in preferences for answer in task.answers]))
    prompts = prompt_lengths(policy, tasks)
    tokens = [
        prompt + sum(next(lengths) for _ in task.answers) for prompt, task in zip(prompts, preferences, strict=True)
    ]
    return Sizes(
        prompts=len(tasks),
        held_out=0 if held_out is None else len(held_out),
        answers=max(len(task.answers) for task in preferences),
        largest=max(tokens),
        mean=sum(tokens) / len(tokens),
    )


def _story(model: RewardModel, settings: Mapping[str, Any], sizes: Sizes) -> list[tuple[str, str]]:
    objective: RewardObjective | None = settings["objective"]
    meaning = (inspect.getdoc(type(objective)) or "").partition("\n")[0].replace("`", "")
    likelihood = "follows from the judgements" if objective is None else f"{shortly(objective)}: {meaning}"
    each = "a copy of it" if settings["learns_trunk"] else "it, unchanged,"
    rows = [
        ("likelihood", likelihood),
        ("starts as", f"{model.trunk.name}: {each} below a head of {model.width} numbers that start at 0"),
        *_members(settings, sizes),
        ("learned from", f"{_about(sizes)}{sizes.prompts:,} prompts with {_answers(sizes)} each"),
        ("judged on", _judged_on(settings, sizes)),
    ]
    try:
        check_exportable(model)
        saved = f"{settings['run']}/model, which AutoModelForSequenceClassification loads; the run is a reward then"
    except PolicyError as error:
        saved = f"nothing but the checkpoints of the run, which is no reward then: {error.message}"
    return [*rows, ("saved as", saved)]


def _members(settings: Mapping[str, Any], sizes: Sizes) -> list[tuple[str, str]]:
    members, share = settings["members"], settings["share"]
    if members == 1 and share == 1:
        return []
    own = f"its own {_learned(settings, sizes):,} of the {sizes.prompts:,} prompts" if share < 1 else "all prompts"
    return [("members", f"{members}, each from {own}, in an order of its own")]


def _learned(settings: Mapping[str, Any], sizes: Sizes) -> int:
    """Prompts that one member learns from."""
    share: float = settings["share"]
    return max(1, round(share * sizes.prompts))


def _judged_on(settings: Mapping[str, Any], sizes: Sizes) -> str:
    if not sizes.held_out:
        return "nothing: there are no held_out answers, so nothing says how often it is right"
    names = "accuracy, loss, calibration_error" + (", disagreement" if settings["members"] > 1 else "")
    return f"{_about(sizes)}{sizes.held_out:,} held-out prompts, {_evaluations(settings)} times: {names}"


def _evaluations(settings: Mapping[str, Any]) -> int:
    """Before the first step, and after every so many and the last."""
    steps: int = settings["steps"]
    return 1 + math.ceil(steps / (settings["evaluate_every"] or steps))


def _about(sizes: Sizes) -> str:
    return "" if sizes.exact else "about "


def _answers(sizes: Sizes) -> str:
    if sizes.answers == 1:
        return "1 answer"
    return f"{sizes.answers} answers" if not sizes.exact else f"at most {sizes.answers} answers"


def _batch(model: RewardModel, settings: Mapping[str, Any], sizes: Sizes) -> list[tuple[str, str]]:
    prompts, steps, members = settings["prompts_per_step"], settings["steps"], settings["members"]
    times = prompts * steps / _learned(settings, sizes)
    of_each = "" if members == 1 else ", of each member on its own prompts and one after the other"
    mean = f"{sizes.mean * prompts:,.0f} distinct ones on average, " if sizes.exact else ""
    return [
        ("judgements", f"{prompts} prompts with all their answers, {steps:,} steps{of_each}"),
        ("goes through", f"{_about(sizes)}{times:.2g} times through the {_learned(settings, sizes):,} prompts"),
        ("tokens", f"{mean}at most {sizes.largest * prompts:,} (a prompt with its answers: {sizes.largest:,})"),
        ("a pass", f"at most {_pass(model, settings, sizes):,} distinct tokens, forward and backward"),
    ]


def _pass(model: RewardModel, settings: Mapping[str, Any], sizes: Sizes) -> int:
    """Most tokens in one forward pass: several trees, or one that is larger than that."""
    together = PassTokens.of(settings["tokens_per_microbatch"], model.device).together
    prompts: int = settings["prompts_per_step"]
    return min(sizes.largest * prompts, max(together, sizes.largest))


def _memory(model: RewardModel, trained: int, settings: Mapping[str, Any], sizes: Sizes) -> list[tuple[str, str]]:
    """Every member is counted: its trunk, which is a copy of what trains, its gradients and its moments."""
    policy, members = model.trunk, settings["members"]
    size = torch.finfo(policy.dtype).bits // 8
    unread = set(map(id, policy.model.get_output_embeddings().parameters()))
    unread -= set(map(id, policy.model.get_input_embeddings().parameters()))
    own = {id(parameter): parameter.nbytes for parameter in policy.trainable_parameters().values()}
    trunk = sum(amount for key, amount in own.items() if key not in unread)
    moved = trained * (4 + 8 + (4 if size < 4 else 0))
    tokens = _pass(model, settings, sizes)
    parts = {
        "weights of the policy that every trunk starts as": policy.parameter_count * size,
        _of_members("trunk", trunk, members): trunk * members,
        _of_members("gradients, moments and masters", moved, members): moved * members,
        f"activations of {tokens:,} tokens": activations(policy, tokens) if settings["learns_trunk"] else 0,
    }
    return added(parts)


def _of_members(name: str, amount: int, members: int) -> str:
    return name if members == 1 else f"{name}, {members} times {amount_text(amount).strip()}"


def _time(model: RewardModel, settings: Mapping[str, Any], sizes: Sizes) -> list[tuple[str, str]]:
    """Steps, evaluations, and the answers that the offsets of the members are measured on at the end."""
    passes = FORWARD_AND_BACKWARD if settings["learns_trunk"] else 1
    multiplied = sum(parameter.numel() for parameter in decoder_parameters(model.trunk))
    each = 2 * multiplied * sizes.mean * settings["members"]
    step = each * passes * settings["prompts_per_step"]
    judged_prompts = _evaluations(settings) * sizes.held_out + (sizes.held_out or sizes.prompts)
    bound = "with answers of their mean length" if sizes.exact else "with every answer at its full budget"
    rows = duration_rows(model.trunk, step, step * settings["steps"] + each * judged_prompts, bound)
    counts = "; a backward pass counts for two" if passes > 1 else ", forward: the trunk does not learn"
    return [("passes", f"{passes} over each distinct token{counts}"), *rows]
