"""What a recipe would do, said before anything starts: the method, the settings, the batch, memory and time."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from laurel.algorithms import Algorithm, Demonstrated
from laurel.configuration import describe
from laurel.policy import Policy, load
from laurel.rollout import Limits
from laurel.tasks import TaskSet
from laurel.training import SAMPLES_PER_PROMPT, train

MATRIX_SIZE = 1024
PROMPTS_LOOKED_AT = 64
GIBIBYTE = 2**30
# Values kept for the backward pass, per token and layer, counted in a Llama-shaped block run eagerly: about this many
# hidden-sized ones and this many of the width of the feed-forward.
HIDDEN_SIZED_ACTIVATIONS = 16
INNER_SIZED_ACTIVATIONS = 4


@dataclass(frozen=True)
class Batch:
    """The derived batch of one step; tokens are upper bounds, with every answer at its full budget.

    Attributes:
        rollouts: prompts x samples.
        optimiser_steps: per step of experience.
        distinct_tokens: what is computed, each shared prompt once.
        row_tokens: what computing every rollout as a row of its own would come to.
    """

    prompts: int
    samples: int
    prompt_tokens: int
    answer_tokens: int
    optimiser_steps: int

    @property
    def rollouts(self) -> int:
        return self.prompts * self.samples

    @property
    def distinct_tokens(self) -> int:
        return self.prompts * (self.prompt_tokens + self.samples * self.answer_tokens)

    @property
    def row_tokens(self) -> int:
        return self.rollouts * (self.prompt_tokens + self.answer_tokens)


def explain(arguments: Mapping[str, Any]) -> RenderableType:
    """A readable account of the call `laurel.train(**arguments)`."""
    settings = {
        name: arguments.get(name, parameter.default) for name, parameter in inspect.signature(train).parameters.items()
    }
    algorithm: Algorithm = settings["algorithm"]
    policy = load(settings["policy"]) if isinstance(settings["policy"], str) else settings["policy"]
    batch = derive(policy, settings)
    return Group(
        _method(algorithm),
        _settings(settings),
        _available(algorithm, settings),
        _batch(batch, settings["steps"]),
        _estimate(policy, algorithm, batch, settings),
    )


def derive(policy: Policy, settings: Mapping[str, Any]) -> Batch:
    """The batch plan: the longest of the first prompts, and the largest answer that the limits allow."""
    algorithm: Algorithm = settings["algorithm"]
    tasks: TaskSet = settings["tasks"]
    looked_at = list(tasks)[:PROMPTS_LOOKED_AT]
    prompt_tokens = max(len(policy.encode_prompt(task.prompt)) for task in looked_at)
    demonstrated = isinstance(algorithm.source, Demonstrated)
    if demonstrated:
        answer_tokens = max(len(policy.encode_answer(task.reference or "")) for task in looked_at)
    else:
        limits: Limits = settings["limits"] or Limits()
        answer_tokens = min(limits.max_new_tokens * limits.max_turns, policy.context_length - prompt_tokens)
    return Batch(
        prompts=settings["prompts_per_step"],
        samples=1 if demonstrated else settings["samples_per_prompt"] or SAMPLES_PER_PROMPT,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        optimiser_steps=algorithm.step.epochs * algorithm.step.minibatches,
    )


def _method(algorithm: Algorithm) -> RenderableType:
    lines = Text()
    lines.append(f"{algorithm.name}: {algorithm.title}\n", style="bold")
    lines.append(f"  maximises   {algorithm.equation}\n")
    lines.append(f"  paper       {algorithm.paper}\n")
    lines.append(f"  deviations  {algorithm.deviations}\n")
    for part in ("source", "credit", "objective", "regularisers", "reduction", "step"):
        value = getattr(algorithm, part)
        shown = ", ".join(map(_short, value)) or "none" if isinstance(value, tuple) else _short(value)
        lines.append(f"  {part:<12}{shown}\n")
    return lines


def _settings(settings: Mapping[str, Any]) -> RenderableType:
    table = Table("setting", "value", box=None, pad_edge=False)
    hidden = ("algorithm", "progress", "resume")
    for name, value in settings.items():
        if name not in hidden:
            table.add_row(f"  {name}", _short(value))
    return table


def _available(algorithm: Algorithm, settings: Mapping[str, Any]) -> RenderableType:
    references = all(task.reference is not None for task in list(settings["tasks"])[:PROMPTS_LOOKED_AT])
    rows = [
        ("reward", settings["reward"] is not None or settings["environment"] is not None),
        ("demonstrations or gold answers", references),
        ("dynamics (an environment that answers)", settings["environment"] is not None),
        ("held-out tasks", settings["held_out"] is not None),
        ("accelerator", torch.cuda.is_available()),
    ]
    lines = Text("\n")
    for name, present in rows:
        lines.append("  available   " if present else "  missing     ", style="green" if present else "yellow")
        lines.append(f"{name}\n")
    if algorithm.needs_reference:
        lines.append("  reference   the policy at the start of the run, kept unchanged\n")
    return lines


def _batch(batch: Batch, steps: int) -> RenderableType:
    saved = batch.row_tokens / batch.distinct_tokens
    return Text(
        f"\n  {batch.prompts} prompts x {batch.samples} samples = {batch.rollouts} rollouts per step, {steps} steps, "
        f"{batch.optimiser_steps} optimiser step(s) each\n"
        f"  at most {batch.distinct_tokens:,} distinct tokens per step (prompt {batch.prompt_tokens}, answer "
        f"{batch.answer_tokens}); row by row it would be {batch.row_tokens:,} ({saved:.1f} times as many)\n"
    )


def _estimate(policy: Policy, algorithm: Algorithm, batch: Batch, settings: Mapping[str, Any]) -> RenderableType:
    weights = policy.parameter_count
    trained = sum(parameter.numel() for parameter in policy.trainable_parameters().values())
    config = policy.model.config.get_text_config()
    width = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * width
    layers = config.num_hidden_layers
    size = torch.finfo(policy.dtype).bits // 8
    microbatch = min(settings["tokens_per_microbatch"] or batch.distinct_tokens, batch.distinct_tokens)
    per_token = layers * (HIDDEN_SIZED_ACTIVATIONS * width + INNER_SIZED_ACTIVATIONS * inner) * size
    live = min(batch.rollouts, settings["max_live_rows"])
    cache = (
        2 * layers * policy.key_value_width * size * (batch.prompts * batch.prompt_tokens + live * batch.answer_tokens)
    )
    parts = {
        "weights": weights * size,
        "gradients, moments and masters": trained * (4 + 8 + (4 if size < 4 else 0)),
        "reference": weights * size if algorithm.needs_reference else 0,
        "activations of a micro-batch": microbatch * per_token,
        "cache of keys and values": cache,
    }
    # Sampling is one forward pass over the distinct tokens, learning one forward and a backward twice as dear.
    operations = 2 * weights * batch.distinct_tokens * (1 + 3 * batch.optimiser_steps)
    rate = matrix_rate(policy.device, policy.dtype)
    seconds = operations / rate
    lines = Text("\n")
    for name, amount in parts.items():
        lines.append(f"  {amount / GIBIBYTE:7.2f} GiB  {name}\n")
    lines.append(f"  {sum(parts.values()) / GIBIBYTE:7.2f} GiB  together, estimated\n", style="bold")
    lines.append(
        f"\n  at least {seconds:.2f} s per step, {seconds * settings['steps'] / 60:.1f} minutes in all: "
        f"{operations / 1e9:,.0f} GFLOP at the {rate / 1e9:,.0f} GFLOP/s that this device was just measured at, "
        "every answer at its full budget\n"
    )
    return lines


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a square matrix product on this device, the best of five."""
    left = torch.randn(MATRIX_SIZE, MATRIX_SIZE, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        product = left @ left
        product[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * MATRIX_SIZE**3 / best


def _short(value: Any) -> str:
    """A value on one line: what `describe` says of it, as name(key=value)."""
    described = describe(value)
    if isinstance(described, Mapping):
        fields = dict(described)
        name = fields.pop("type", fields.pop("name", ""))
        return f"{name}({', '.join(f'{key}={_short(item)}' for key, item in fields.items())})"
    return str(described)
