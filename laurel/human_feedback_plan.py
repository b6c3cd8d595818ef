"""What `laurel.rlhf` would do, said before it starts: who learns what from whom, and the three runs one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.rule import Rule

from laurel.fitting_plan import Sizes, fit_account
from laurel.human_feedback import ATTEMPTS, check_same, rlhf, settings_of
from laurel.human_feedback_stages import Labels, Stages, check_stages, held_out_of, stages
from laurel.lengths import prompt_lengths
from laurel.plan import card, loaded, shortly, training_account
from laurel.policy import Policy
from laurel.preflight import path_limit
from laurel.recipe import defaults_of
from laurel.rollout import Limits
from laurel.training import train

BY_REWARD_MODEL = "the reward model of the second run"


def feedback_account(arguments: Mapping[str, Any]) -> RenderableType:
    """A readable account of what `laurel.rlhf` would do with these arguments.

    Raises:
        LaurelError: what one of the runs would refuse, and settings other than those that it was started with.
    """
    settings = {**defaults_of(rlhf), **arguments}
    planned = stages(settings)
    policy = loaded(settings["policy"])
    planned = planned.starting_from(policy)
    planned = check_stages(policy, planned)
    check_same(planned.directory, settings_of(settings, policy))
    fit = {"tasks": _comparisons(planned.labels)} if planned.labels is not None else {}
    sizes = None if planned.labels is None else _expected(policy, planned, planned.labels)
    paid = {"reward": _paid(settings["pessimism"], planned.fit["members"])}
    if sizes is not None and sizes.held_out:
        fit["held_out"] = f"{planned.fit['held_out']}: about {sizes.held_out:,} of them"
    return Group(
        card("rlhf: three runs, and a reward that is kept aside", _story(settings, planned)),
        _heading("1. clone", planned.clone),
        training_account(planned.clone),
        _heading("2. reward model", planned.fit),
        fit_account(planned.fit, sizes=sizes, said=fit),
        _heading("3. reinforce", planned.reinforce),
        training_account(planned.reinforce, said=paid, beside=_beside(policy, planned)),
    )


def _heading(name: str, run: Mapping[str, Any]) -> RenderableType:
    return Rule(f"{name}: {run['run']}", align="left", style="bold")


def _story(settings: Mapping[str, Any], planned: Stages) -> list[tuple[str, str]]:
    clone, fit, reinforce = (
        {**defaults_of(train), **planned.clone}, planned.fit, {**defaults_of(train), **planned.reinforce},
    )  # fmt: skip
    held_out, algorithm, members = len(settings["held_out"]), reinforce["algorithm"], fit["members"]
    models = "a reward model" if members == 1 else f"{members} reward models"
    source = f"{len(fit['tasks']):,} of your own" if planned.labels is None else _comparisons(planned.labels)
    return [
        ("gold reward", f"{shortly(settings['gold_reward'])}: judges, and no policy ever learns from it"),
        ("1. clone", f"{clone['algorithm'].name} learns from {len(clone['tasks']):,} tasks of '{clone['tasks'].name}'"),
        ("comparisons", source),
        ("2. reward model", f"{models} learn{'s' if members == 1 else ''} what was said of them"),
        (
            "3. reinforce",
            f"{algorithm.name} goes on from the clone, on {len(reinforce['tasks']):,} prompts; paid by "
            f"{_paid(settings['pessimism'], members)}, held to the clone by its KL",
        ),
        (
            "over-optimised?",
            f"both rewards judge {held_out:,} held-out prompts after every {reinforce['evaluate_every']} steps of "
            "reinforce, over the square root of the KL from the clone",
        ),
        (
            "control",
            f"best of {', '.join(map(str, sorted(settings['best_of'])))}: {max(settings['best_of'])} answers of the "
            f"clone to each held-out prompt, {max(settings['best_of']) * held_out:,} in all, under both rewards; "
            "nothing is trained",
        ),
        ("kept in", f"{planned.directory}: three runs, the comparisons, report.json and report.svg"),
    ]


def _comparisons(labels: Labels) -> str:
    faults = {name: value for name, value in vars(labels).items() if name != "pairs" and value}
    teacher = "a teacher who knows the gold reward"
    if faults:
        teacher += f" ({', '.join(f'{name}={value}' for name, value in faults.items())})"
    return (
        f"{labels.pairs:,} pairs of the clone's answers, judged by {teacher}; at most {ATTEMPTS * labels.pairs:,} are "
        "drawn, as equal answers are no pair"
    )


def _paid(pessimism: float, members: int) -> str:
    if members == 1:
        return BY_REWARD_MODEL
    less = f", less {pessimism:g} times their deviation" if pessimism else ""
    return f"the mean of the {members} reward models of the second run{less}"


def _expected(policy: Policy, planned: Stages, labels: Labels) -> Sizes:
    """Comparisons that are still to be made: two answers each, of the length that the limits allow."""
    drawn = {**defaults_of(train), **planned.reinforce}
    prompt = max(prompt_lengths(policy, drawn["tasks"]))
    longest = min((drawn["limits"] or Limits()).max_new_tokens, path_limit(policy, drawn) - prompt)
    answer = min(longest + 1, policy.context_length - prompt)  # what was cut off is read with an end
    tokens, held_out = prompt + 2 * answer, planned.fit["held_out"]
    asked = 0
    if held_out is not None:
        asked = held_out_of(held_out, labels.pairs) if isinstance(held_out, int | float) else len(held_out)
    learned = labels.pairs - (asked if isinstance(held_out, int | float) else 0)
    return Sizes(learned, asked, 2, tokens, tokens, exact=False)


def _beside(policy: Policy, planned: Stages) -> dict[str, int]:
    """What is in memory while the third run goes on: every reward model, and the clone that the KL is measured from."""
    size = torch.finfo(policy.dtype).bits // 8
    trained = sum(parameter.numel() for parameter in policy.trainable_parameters().values())
    members = planned.fit["members"]
    name = "reward model" if members == 1 else f"{members} reward models"
    return {name: members * policy.parameter_count * size, "the clone, to measure the KL from": trained * size}
