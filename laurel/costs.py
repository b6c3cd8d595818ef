"""What a run would cost, by arithmetic: memory, forward passes, and time at the rate of this device."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from laurel.algorithms import Algorithm, Asked, Sampled, TrustRegion
from laurel.batch_plan import Batch
from laurel.learner import CriticSettings
from laurel.learner.pass_tokens import PassTokens
from laurel.policy import Policy, Reference, SelfJudged, asks_start, judges_in, reward_models_in, step_scorers_in
from laurel.policy.fused_decoding import DecodingStep
from laurel.policy.log_probs import CHUNK_ELEMENTS
from laurel.recovered import recovery_memory, recovery_passes

MATRIX_SIZE = 1024
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


def memory_rows(
    policy: Policy,
    algorithm: Algorithm,
    batch: Batch,
    settings: Mapping[str, Any],
    beside: Mapping[str, int] | None = None,
) -> list[tuple[str, str]]:
    """What a run holds at once, part by part, and the sum: an amount and a name each.

    Args:
        beside: what else is there meanwhile, in bytes.
    """
    weights = policy.parameter_count
    trained = sum(parameter.numel() for parameter in policy.trainable_parameters().values())
    config = policy.model.config.get_text_config()
    size = torch.finfo(policy.dtype).bits // 8
    microbatch = _microbatch(policy, batch, settings["tokens_per_microbatch"])
    graded = settings["reward"] is not None or settings["environment"] is not None
    live = settings["max_live_rows"] if graded or isinstance(algorithm.source, Asked | Sampled) else 0
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
        **_reference_memory(algorithm, settings, trained * size),
        f"activations of {microbatch:,} tokens": activations(policy, microbatch),
        "logits of one chunk": LOGIT_COPIES * 4 * min(CHUNK_ELEMENTS, microbatch * config.vocab_size),
        "weights prepared for decoding": DECODING_COPIES * sum(p.nbytes for p in decoder_parameters(policy))
        if served
        else 0,
        "cache of keys and values": 2 * config.num_hidden_layers * policy.key_value_width * size * cached
        if live
        else 0,
        **_judges(settings),
        **(beside or {}),
    }
    return added(parts)


def added(parts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Bytes by name as rows, and their sum; what takes none is left out."""
    rows = [(amount_text(amount), name) for name, amount in parts.items() if amount]
    return [*rows, (amount_text(sum(parts.values())), "together")]


def activations(policy: Policy, tokens: int) -> int:
    """Bytes that so many tokens of one pass keep for the backward pass."""
    config = policy.model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    each = HIDDEN_SIZED_ACTIVATIONS * config.hidden_size + INNER_SIZED_ACTIVATIONS * inner
    return int(tokens * config.num_hidden_layers * each * (torch.finfo(policy.dtype).bits // 8))


def _judges(settings: Mapping[str, Any]) -> dict[str, int]:
    """The models that judge answers or steps: reward models (each of an ensemble), judges, scorers of steps."""
    names = ("reward", "held_out_reward", "watched_reward")
    asked = {id(one): one for name in names for one in reward_models_in(settings[name])}
    models = {key: _held(one.trunk) + (one.head.nbytes if hasattr(one, "head") else 0) for key, one in asked.items()}
    judges = {id(one): _held(one) for name in names for one in judges_in(settings[name])}
    scorers = {id(one): _held(one) for name in names for one in step_scorers_in(settings[name])}
    counted = (("reward model", models), ("judge", judges), ("scorer of steps", scorers))
    return {_counted(name, amounts): sum(amounts.values()) for name, amounts in counted}


def _held(one: Policy | Reference) -> int:
    """Bytes of weights; of a snapshot those that are its own."""
    weights = one.model.parameters() if isinstance(one, Policy) else one.tensors().values()
    return sum(tensor.nbytes for tensor in weights)


def _counted(name: str, amounts: Mapping[int, int]) -> str:
    one, *of = name.split(" of ")
    return name if len(amounts) == 1 else " of ".join([f"{len(amounts)} {one}s", *of])


def _reference_memory(algorithm: Algorithm, settings: Mapping[str, Any], copy: int) -> dict[str, int]:
    """A copy of what trains, or a teacher, which is copied whole."""
    teacher: Policy | None = settings["teacher"]
    if teacher is not None:
        return {"teacher": teacher.parameter_count * torch.finfo(teacher.dtype).bits // 8}
    asked = asks_start(settings["reward"]) or asks_start(settings["watched_reward"])
    itself = {"copy that judges": copy} if isinstance(settings["reward"], SelfJudged) else {}
    return {"reference": copy if algorithm.needs_reference or asked else 0, **itself}


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
    size = PassTokens.of(wanted, policy.device)
    return min(batch.distinct_tokens, max(size.together, min(batch.prompt_distinct_tokens, size.uncut)))


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


def decoder_parameters(policy: Policy) -> list[torch.nn.Parameter]:
    """Those of the decoder's layers, without embeddings and head."""
    embeddings = set(map(id, policy.model.get_input_embeddings().parameters()))
    return [p for p in policy.model.get_decoder().parameters() if id(p) not in embeddings]


def _multiplied(policy: Policy) -> int:
    """Parameters that every token is multiplied by: an embedding is looked up, unless it is the head as well."""
    embedding = policy.model.get_input_embeddings().weight
    head = policy.model.get_output_embeddings()
    tied = head is not None and head.weight is embedding
    return policy.parameter_count - (0 if tied else embedding.numel())


def time_rows(policy: Policy, algorithm: Algorithm, batch: Batch, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How long a step and the whole run would take, by arithmetic alone, and why: a name and a text each."""
    steps = settings["steps"]
    computed = passes(algorithm) + critic_passes(algorithm, settings["critic"])
    computed += recovery_passes(algorithm, settings["recovery"])
    tokens = batch.distinct_tokens * computed + batch.continuations * batch.answer_tokens
    operations = 2 * _multiplied(policy) * tokens
    rows = duration_rows(policy, operations, operations * steps, "with every answer at its full budget")
    return [("passes", f"{computed} over each distinct token; a backward pass counts for two"), *rows]


def duration_rows(policy: Policy, operations: float, all_operations: float, bound: str) -> list[tuple[str, str]]:
    """The time of so many floating-point operations per step, and in all, at the rate of this device."""
    rate = matrix_rate(policy.device, policy.dtype)
    return [
        ("per step", f"about {_seconds(operations / rate)}, {bound}"),
        ("in all", f"about {_seconds(all_operations / rate)}"),
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


def amount_text(amount: float) -> str:
    """Bytes in a unit that is easy to read, in a column of one width."""
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
