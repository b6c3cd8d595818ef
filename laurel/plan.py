"""What a recipe would do, said before anything starts: the method, the settings, the batch, memory and time."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from laurel.algorithms import METHODS, Algorithm, Asked, Compared, Demonstrated, Sampled, TrustRegion
from laurel.asked import found_expert
from laurel.configuration import describe
from laurel.learner import CriticSettings, OptimiserSettings, RecoverySettings
from laurel.learner.learner import TOKENS_PER_MICROBATCH, UNCUT_TOKENS
from laurel.page import Page
from laurel.policy import Policy, load
from laurel.policy.fused_decoding import DecodingStep
from laurel.policy.log_probs import CHUNK_ELEMENTS
from laurel.preferences import Preference, PreferenceSet
from laurel.preflight import check_fit, check_parts, prompt_lengths, unread_arguments
from laurel.recipe import load as load_recipe
from laurel.recovered import recovery_memory, recovery_passes
from laurel.rewards import GradingSettings
from laurel.rollout import Limits
from laurel.tasks import TaskSet
from laurel.training import SAMPLES_PER_PROMPT, loaded_teacher, train
from laurel.tree import Sampling

MATRIX_SIZE = 1024
PROMPTS_LOOKED_AT = 64
# Values kept for the backward pass, per token and layer, counted in a Llama-shaped block run eagerly: about this many
# hidden-sized ones and this many of the width of the feed-forward.
HIDDEN_SIZED_ACTIVATIONS = 16
INNER_SIZED_ACTIVATIONS = 4
# A product with the Fisher matrix in forward passes: one with tangents counts for three, one without, and its backward.
FISHER_PASSES = 6
# Vectors as long as the weights that the search for a step holds: gradient (twice), solution, residual, direction,
# product, and the weights where it began.
SEARCH_VECTORS = 7
# Copies of the weights of a small decoder that sampling prepares: put together, and in the layout that products like.
DECODING_COPIES = 2
# Copies of one chunk of logits, in float32, that live at once while log-probabilities are computed.
LOGIT_COPIES = 4


@dataclass(frozen=True)
class Batch:
    """The derived batch of one step; tokens are upper bounds, with every answer at its full budget.

    Attributes:
        rollouts: prompts x samples.
        optimiser_steps: per step of experience.
        distinct_tokens: what is learned from, each shared prompt once.
        continuations: rollouts that are only sampled and graded, to see what the middle of others is worth.
        row_tokens: what computing every rollout as a row of its own would come to.
    """

    prompts: int
    samples: int
    prompt_tokens: int
    answer_tokens: int
    optimiser_steps: int
    continuations: int = 0

    @property
    def rollouts(self) -> int:
        """Samples in one step, continuations apart."""
        return self.prompts * self.samples

    @property
    def distinct_tokens(self) -> int:
        """Most tokens that one pass computes: each prompt once, and every answer at its full length."""
        return self.prompts * (self.prompt_tokens + self.samples * self.answer_tokens)

    @property
    def row_tokens(self) -> int:
        """The same with one row per rollout, where a prompt is computed once for each of its samples."""
        return self.rollouts * (self.prompt_tokens + self.answer_tokens)


def explain(recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Page:
    """A readable account of what a recipe would do.

    Args:
        recipe: a file, or the keyword arguments of `laurel.train`.
        overrides: such as "steps=10", for a file.

    Raises:
        LaurelError: what training would refuse before it starts.
    """
    arguments = recipe if isinstance(recipe, Mapping) else load_recipe(recipe, overrides)
    defaults = {name: parameter.default for name, parameter in inspect.signature(train).parameters.items()}
    settings = {**defaults, **arguments}
    check_parts(settings, defaults)
    algorithm: Algorithm = settings["algorithm"]
    policy = load(settings["policy"]) if isinstance(settings["policy"], str) else settings["policy"]
    check_fit(policy, settings)
    if settings["teacher"] is not None:
        settings["teacher"] = loaded_teacher(policy, settings["teacher"])
    if settings["expert"] is not None:
        settings["expert"] = found_expert({**settings, "policy": policy})
    batch = derive(policy, settings)
    account = Group(
        card(f"{algorithm.name}: {algorithm.title}", [*_story(algorithm), *_choices(algorithm)]),
        card("settings", _settings(settings)),
        card("what there is to learn from", _available(algorithm, settings)),
        card("each step", [*_batch(batch, settings["steps"], algorithm), *_region(algorithm)]),
        card("memory, estimated", _memory(policy, algorithm, batch, settings)),
        card("time, estimated", _time(policy, algorithm, batch, settings)),
    )
    return Page(account)


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
    return Batch(
        prompts=settings["prompts_per_step"],
        samples=samples,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        optimiser_steps=algorithm.step.epochs * algorithm.step.minibatches,
        continuations=settings["prompts_per_step"] * samples * (places * branching.continuations if branching else 0),
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
        rows.append((part, ", ".join(map(_short, value)) or "none" if isinstance(value, tuple) else _short(value)))
    return rows


def _settings(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
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
        "evaluate_every": "before the first step and after the last",
        "tokens_per_microbatch": "chosen by device",
        "environment": "none: one answer",
        "teacher": "none",
        "expert": "none",
        "held_out": "none",
        "reward": "from the environment" if settings["environment"] is not None else "none",
    }
    rows = []
    for name, value in settings.items():
        if name in ("algorithm", "progress", "resume"):
            continue
        if name in unread:
            rows.append((name, f"not read: {unread[name]}"))
        elif isinstance(value, TaskSet):
            left_out = f"; {value.left_out}" if isinstance(value, PreferenceSet) and value.left_out.count else ""
            rows.append((name, f"{value.name}: {len(value):,} tasks{left_out}"))
        else:
            rows.append((name, _short(meant.get(name) if value is None else value)))
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


def _memory(policy: Policy, algorithm: Algorithm, batch: Batch, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    weights = policy.parameter_count
    trained = sum(parameter.numel() for parameter in policy.trainable_parameters().values())
    config = policy.model.config.get_text_config()
    width = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * width
    layers = config.num_hidden_layers
    size = torch.finfo(policy.dtype).bits // 8
    per_token = layers * (HIDDEN_SIZED_ACTIVATIONS * width + INNER_SIZED_ACTIVATIONS * inner) * size
    microbatch = _microbatch(policy, batch, settings["tokens_per_microbatch"])
    live = 0 if settings["reward"] is None and settings["environment"] is None else settings["max_live_rows"]
    cached = (
        batch.prompts * batch.prompt_tokens + min(max(batch.rollouts, batch.continuations), live) * batch.answer_tokens
    )
    masters = 4 if size < 4 else 0
    moved = {"gradients, moments and masters": trained * (4 + 8 + masters)}
    if isinstance(algorithm.step, TrustRegion):
        moved = {"vectors of the search and masters": trained * (4 * SEARCH_VECTORS + masters)}
    served = live and policy.fused is not None and DecodingStep.serves(policy.fused)
    parts = {
        "weights": weights * size,
        **moved,
        **_critic_memory(policy, algorithm, settings["critic"], weights * size, trained * (4 + 8 + masters)),
        **recovery_memory(algorithm, settings["recovery"], weights * size, trained * (4 + 8 + masters)),
        **_reference_memory(algorithm, settings["teacher"], trained * size),
        f"activations of {microbatch:,} tokens": microbatch * per_token,
        "logits of one chunk": LOGIT_COPIES * 4 * min(CHUNK_ELEMENTS, microbatch * config.vocab_size),
        "weights prepared for decoding": DECODING_COPIES * _decoder_bytes(policy) if served else 0,
        "cache of keys and values": 2 * layers * policy.key_value_width * size * cached if live else 0,
    }
    rows = [(_bytes(amount), name) for name, amount in parts.items() if amount]
    return [*rows, (_bytes(sum(parts.values())), "together")]


def _reference_memory(algorithm: Algorithm, teacher: Policy | None, copy: int) -> dict[str, int]:
    """A copy of what trains, or a teacher, which is copied whole."""
    if teacher is not None:
        return {"teacher": teacher.parameter_count * torch.finfo(teacher.dtype).bits // 8}
    return {"reference": copy if algorithm.needs_reference else 0}


def _critic_memory(
    policy: Policy, algorithm: Algorithm, critic: CriticSettings | None, copy: int, moved: int
) -> dict[str, int]:
    """A critic of its own is a copy of the policy with an optimiser; a shared one is one head."""
    if not algorithm.needs_critic:
        return {}
    settings = critic or CriticSettings()
    if settings.kind == "shared":
        return {"critic, a head on the policy": policy.model.get_output_embeddings().weight.shape[1] * (4 + 4 + 8)}
    size = "" if settings.model is None else f" ({settings.model}, counted as large as the policy)"
    return {f"critic with gradients, moments and masters{size}": copy + moved}


def _microbatch(policy: Policy, batch: Batch, wanted: int | None) -> int:
    """Most tokens in one forward pass of the learner: several trees, or one that is not worth cutting."""
    together = wanted or TOKENS_PER_MICROBATCH.get(policy.device.type, TOKENS_PER_MICROBATCH["cuda"])
    uncut = wanted or UNCUT_TOKENS * together
    return min(batch.distinct_tokens, max(together, min(batch.distinct_tokens // batch.prompts, uncut)))


def passes(algorithm: Algorithm) -> int:
    """How often each distinct token of a step is computed, in forward passes; a backward pass is twice as dear as one.

    Sampling is one, and so are the log-probabilities before several optimiser steps and those of a reference. Learning
    is three for every epoch, however many minibatches the epoch is divided into, and one more with an exact divergence;
    a penalty in the reward that reads the reference is two, of policy and reference, before credit is given. Places by
    entropy are one, and so are the ratios of credit that corrects for an older policy.
    """
    sampled = isinstance(algorithm.source, Sampled | Asked)
    return (
        sampled
        + (isinstance(algorithm.source, Sampled) and _measures_entropies(algorithm.source))
        + algorithm.needs_log_ratios
        + (not algorithm.step.on_policy)
        + 2 * any(getattr(part, "needs_reference", False) for part in algorithm.penalties)
        + any(getattr(part, "needs_reference", False) for part in (algorithm.objective, *algorithm.regularisers))
        + (3 + algorithm.needs_divergence) * algorithm.step.epochs
        + _search_passes(algorithm)
    )


def _measures_entropies(source: Sampled) -> bool:
    return source.branching is not None and source.branching.needs_entropies


def critic_passes(algorithm: Algorithm, critic: CriticSettings | None) -> int:
    """Forward passes of the critic: one for the values of a step, and then three for every epoch of its own.

    A critic that shares the policy's trunk reads it without a backward pass.
    """
    if not algorithm.needs_critic:
        return 0
    settings = critic or CriticSettings()
    return 1 + (3 if settings.kind == "own" else 1) * (settings.epochs or algorithm.step.epochs)


def _search_passes(algorithm: Algorithm) -> int:
    """Forward passes of the search in a trust region whose first step is taken."""
    if not isinstance(algorithm.step, TrustRegion):
        return 0
    return FISHER_PASSES * (algorithm.step.iterations + 1) + 3


def _decoder_bytes(policy: Policy) -> int:
    """Of the decoder's layers; embeddings and head are read where they are."""
    embeddings = set(map(id, policy.model.get_input_embeddings().parameters()))
    return sum(p.nbytes for p in policy.model.get_decoder().parameters() if id(p) not in embeddings)


def _multiplied(policy: Policy) -> int:
    """Parameters that every token is multiplied by: an embedding is looked up, unless it is the head as well."""
    embedding = policy.model.get_input_embeddings().weight
    head = policy.model.get_output_embeddings()
    tied = head is not None and head.weight is embedding
    return policy.parameter_count - (0 if tied else embedding.numel())


def _time(policy: Policy, algorithm: Algorithm, batch: Batch, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    steps = settings["steps"]
    computed = passes(algorithm) + critic_passes(algorithm, settings["critic"])
    computed += recovery_passes(algorithm, settings["recovery"])
    tokens = batch.distinct_tokens * computed + batch.continuations * batch.answer_tokens
    operations = 2 * _multiplied(policy) * tokens
    rate = matrix_rate(policy.device, policy.dtype)
    seconds = operations / rate
    return [
        ("per step", f"about {_seconds(seconds)}, with every answer at its full budget"),
        ("in all", f"about {_seconds(seconds * steps)}"),
        (
            "because",
            f"{operations / 1e9:,.3g} GFLOP per step at {rate / 1e9:,.0f} GFLOP/s, as this device just did; small "
            "models and short answers reach a fraction of that",
        ),
    ]


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


def _bytes(amount: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:6.1f} {unit:<3}"


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _short(value: Any) -> str:
    """A value on one line: what `describe` says of it, as name(key=value)."""
    described = describe(value)
    if isinstance(described, Mapping):
        fields = dict(described)
        name = fields.pop("type", fields.pop("name", ""))
        return f"{name}({', '.join(f'{key}={_short(item)}' for key, item in fields.items())})"
    if isinstance(described, list):
        return "(" + ", ".join(map(_short, described)) + ")" if described else "none"
    if isinstance(described, str) and not described.isprintable():
        return repr(described)
    return "none" if described is None else str(described)
