"""The batch of a step as its settings imply it: how many rollouts, and how many tokens at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from laurel.algorithms import Algorithm, Asked, Compared, Demonstrated, Sampled
from laurel.lengths import prompt_lengths
from laurel.policy import Policy
from laurel.rollout import Limits
from laurel.tasks import TaskSet
from laurel.training import SAMPLES_PER_PROMPT


@dataclass(frozen=True)
class Batch:
    """The derived batch of one step; tokens are upper bounds, with every answer at its full budget.

    Attributes:
        rollouts: prompts x samples.
        optimiser_steps: per step of experience.
        distinct_tokens: what is learned from, each shared prompt once.
        continuations: rollouts that are only sampled and graded, to see what the middle of others is worth.
        row_tokens: what computing every rollout as a row of its own would come to.
        learned_prompts: how many prompts are learned from, where those are not the ones that were drawn for.
        beside_tokens: of an expert's answers beside the turns of each rollout.
    """

    prompts: int
    samples: int
    prompt_tokens: int
    answer_tokens: int
    optimiser_steps: int
    continuations: int = 0
    learned_prompts: int | None = None
    beside_tokens: int = 0

    @property
    def rollouts(self) -> int:
        """Samples in one step, continuations apart."""
        return self.prompts * self.samples

    @property
    def distinct_tokens(self) -> int:
        """Most tokens that one pass computes: each prompt once, and every answer at its full length."""
        return (self.learned_prompts or self.prompts) * self.prompt_distinct_tokens

    @property
    def prompt_distinct_tokens(self) -> int:
        """Of one prompt with everything below it."""
        return self.prompt_tokens + self.samples * (self.answer_tokens + self.beside_tokens)

    @property
    def row_tokens(self) -> int:
        """The same with one row per rollout, where a prompt is computed once for each of its samples."""
        rollouts = (self.learned_prompts or self.prompts) * self.samples
        return rollouts * (self.prompt_tokens + self.answer_tokens + self.beside_tokens)


def derive(policy: Policy, settings: Mapping[str, Any]) -> Batch:
    """The batch plan: the longest prompt, and the largest answer that the limits allow."""
    algorithm: Algorithm = settings["algorithm"]
    tasks: TaskSet = settings["tasks"]
    prompt_tokens = max(prompt_lengths(policy, tasks))
    if isinstance(algorithm.source, Compared):
        return _judged_batch(policy, settings, algorithm.source, prompt_tokens)
    demonstrated = isinstance(algorithm.source, Demonstrated)
    if demonstrated:
        answer_tokens = max(policy.answer_lengths([task.reference or "" for task in tasks]))
    else:
        limits: Limits = settings["limits"] or Limits()
        room = min(limits.max_path_tokens or policy.context_length, policy.context_length) - prompt_tokens
        answer_tokens = min(limits.max_new_tokens * limits.max_turns, room)
    samples = 1 if demonstrated else settings["samples_per_prompt"] or SAMPLES_PER_PROMPT
    branching = algorithm.source.branching if isinstance(algorithm.source, Sampled) else None
    # A place has a token before it and one behind it.
    places = 0 if branching is None else min(branching.places_per_sample, answer_tokens - 1)
    asked = algorithm.source if isinstance(algorithm.source, Asked) else None
    return Batch(
        prompts=settings["prompts_per_step"],
        samples=samples,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        optimiser_steps=algorithm.step.epochs * algorithm.step.minibatches,
        continuations=settings["prompts_per_step"] * samples * (places * branching.continuations if branching else 0),
        learned_prompts=None if asked is None else asked.prompts_per_update,
        beside_tokens=0 if asked is None else answer_tokens,
    )


def _judged_batch(policy: Policy, settings: Mapping[str, Any], source: Compared, prompt_tokens: int) -> Batch:
    """The plan where every prompt brings its answers along: the most and the longest of them."""
    answers = [task.answers for task in settings["tasks"]]
    step = settings["algorithm"].step
    return Batch(
        prompts=settings["prompts_per_step"],
        samples=max(map(len, answers)) + source.mismatched,
        prompt_tokens=prompt_tokens,
        answer_tokens=max(policy.answer_lengths([answer for some in answers for answer in some])),
        optimiser_steps=step.epochs * step.minibatches,
    )
