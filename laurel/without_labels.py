"""Rewards that read no label: where they can be learned from, and that they judge nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel.algorithms import Algorithm, Sampled
from laurel.errors import ConfigurationError
from laurel.policy import is_judged_by
from laurel.rewards import Reward, needs_siblings, reads_labels

FEWEST = 3
"""Siblings among which one can be told from the others by what they agree on."""


def learns_from_rewards(algorithm: Algorithm) -> bool:
    """Whether the method is taught by a reward that it is given."""
    return isinstance(algorithm.source, Sampled) and algorithm.source.needs_reward


def check_without_labels(arguments: Mapping[str, Any]) -> None:
    """Refuse a reward of whole groups where there are none, and a judge that knows no right answer.

    Args:
        arguments: all of `laurel.train`, by name.

    Raises:
        ConfigurationError: naming the argument.
    """
    algorithm: Algorithm = arguments["algorithm"]
    if learns_from_rewards(algorithm) and needs_siblings(arguments["reward"]):
        _check_groups(algorithm, arguments["samples_per_prompt"], _fewest(arguments["reward"]))
    if is_judged_by(arguments["reward"], arguments["policy"]):
        raise ConfigurationError(
            "reward: the policy that learns is the judge, and would move while it judges.",
            hint="give a copy of it that stands still: laurel.policy.SelfJudged(...), in a recipe self_judge.",
        )
    if arguments["held_out"] is None:
        return
    judge = "reward" if arguments["held_out_reward"] is None else "held_out_reward"
    if arguments[judge] is not None and not reads_labels(arguments[judge]):
        raise ConfigurationError(
            f"{judge}: it reads no label, so it cannot say whether held-out answers are right.",
            hint="add held_out_reward: a verifier such as exact_match, which is never trained on.",
        )
    check_judge("watched_reward", arguments["watched_reward"])


def check_judge(name: str, reward: Reward | None) -> None:
    """Refuse a reward of whole groups where answers are judged one by one.

    Raises:
        ConfigurationError: naming it.
    """
    if needs_siblings(reward):
        raise ConfigurationError(
            f"{name}: it holds an answer against the others to its prompt, and an evaluation judges each alone.",
            hint="take a verifier such as exact_match.",
        )


def _fewest(reward: Reward | None) -> int:
    """How many siblings the reward, and every part of it, needs: of those that compare two answers it is two."""
    own = getattr(reward, "fewest_siblings", FEWEST) if getattr(reward, "needs_siblings", False) else 1
    return max([own, *map(_fewest, getattr(reward, "rewards", ()))])


def _check_groups(algorithm: Algorithm, samples: int | None, fewest: int) -> None:
    if samples is not None and samples < fewest:
        two = "" if fewest < FEWEST else ", and two agree or do not, which tells neither from the other"
        raise ConfigurationError(
            f"The reward holds an answer against the others to its prompt: one has none{two}.",
            hint=f"set samples_per_prompt to at least {fewest}; a vote of 16 and more can be trusted.",
        )
    source = algorithm.source
    assert isinstance(source, Sampled)
    if source.greedy_baseline or source.branching is not None:
        what = "the greedy answer, which has no siblings" if source.greedy_baseline else "continuations of its samples"
        raise ConfigurationError(
            f"The reward holds an answer against the others to its prompt, and '{algorithm.name}' also grades {what}.",
            hint="take a method that grades samples alone, such as grpo or rloo.",
        )
