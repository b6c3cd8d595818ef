"""Prove at load that packed trees are computed as the stock model computes single rows, or refuse the model.

Two kinds of proof. What a small tree can show, it shows: all log-probabilities on it are compared with the stock
(eager) model's, row by row. What only a longer path would show (a sliding window, an attention in chunks) is read from
the configuration and compared with what the layers really ask for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from laurel.errors import PolicyError
from laurel.policy.attention import ATTENTION_NAME, LayerCall
from laurel.policy.fused import LayerSettings
from laurel.policy.packed import Packed, pack
from laurel.policy.policy import Policy
from laurel.policy.tree_attention import TreeAttention
from laurel.tree import Segment, Source, Tree

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 0.05, torch.bfloat16: 0.25}
"""Greatest difference of any log-probability that rounding may explain."""

_SUPPORTED_LAYERS = {"full_attention", "sliding_attention"}


def check_architecture(name: str, config: Any) -> None:
    """Refuse, before any weight is read, what the configuration shows to be out of reach.

    Raises:
        PolicyError: naming the architecture and what it has.
    """
    text = config.get_text_config(decoder=True)
    if getattr(config, "is_encoder_decoder", False):
        raise PolicyError(
            f"{name}: {_architecture(config)} is an encoder-decoder model.", hint="choose a decoder-only model."
        )
    others = sorted(set(getattr(text, "layer_types", None) or ()) - _SUPPORTED_LAYERS)
    if others:
        raise PolicyError(
            f"{name}: {_architecture(config)} has layers of type {', '.join(others)}, whose state cannot branch "
            "along a tree as attention can.",
            hint="choose a model with full and sliding attention only.",
        )


def usable_context(config: Any, tokenizer: Any) -> int | None:
    """Most tokens on a path: the configuration's limit, else the tokenizer's; None when neither says.

    Rotary embeddings that change with the longest row of a batch (dynamic, longrope) would make a token's meaning
    depend on other trees; up to the length of the original training they do not change.
    """
    text = config.get_text_config(decoder=True)
    limit = getattr(text, "max_position_embeddings", None)
    if not isinstance(limit, int):
        known = getattr(tokenizer, "model_max_length", None)
        return known if isinstance(known, int) and known < 10**9 else None
    rope = getattr(text, "rope_parameters", None) or {}
    for settings in (rope, *(part for part in rope.values() if isinstance(part, dict))):
        if settings.get("rope_type") in {"dynamic", "longrope"}:
            original = settings.get("original_max_position_embeddings")
            original = original or getattr(text, "original_max_position_embeddings", None)
            limit = min(limit, original or limit)
    return limit


def check_parity(policy: Policy) -> float:
    """Compare a random tree with the stock model; returns the greatest difference of any log-probability, in nats.

    Raises:
        PolicyError: naming the architecture and the difference.
    """
    architecture = _architecture(policy.model.config)
    tree = _random_tree(policy)
    packed = pack([tree], [tree.flat.policy], policy.device)
    recorder = _Recorder(packed)
    policy.fused = None
    with torch.no_grad():
        try:
            hidden = policy.hidden_states(packed.tokens, packed.positions, recorder)
        except PolicyError as error:
            raise PolicyError(f"{policy.name}: {architecture}: {error.message}", hint=error.hint) from error
        _check_layers(policy, architecture, recorder)
        ours = torch.log_softmax(policy.logits(hidden), -1)
        stock = _stock(policy, tree)
    difference = float((ours - stock).abs().nan_to_num(nan=torch.inf).max())
    if difference > TOLERANCE[policy.dtype]:
        raise PolicyError(
            f"{policy.name}: {architecture} computes packed trees differently from single rows: log-probabilities "
            f"differ by up to {difference:.2g}; rounding in {policy.dtype} explains {TOLERANCE[policy.dtype]:.2g}.",
            hint="its attention or its output head does something that Laurel does not know; choose another model.",
        )
    _try_fused(policy, packed, recorder, hidden)
    return difference


def _try_fused(policy: Policy, packed: Packed, recorder: _Recorder, hidden: Tensor) -> None:
    """Let the lean computation serve the policy if it gives these states [T, D]; the stock one goes on otherwise."""
    if not policy.use_fused([recorder.settings[layer] for layer in sorted(recorder.settings)]):
        return
    with torch.no_grad():
        fused = policy.hidden_states(packed.tokens, packed.positions, TreeAttention.of(packed))
    difference = float((fused - hidden).abs().nan_to_num(nan=torch.inf).max())
    if difference > TOLERANCE[policy.dtype] * float(hidden.abs().max()):
        policy.fused = None


class _Recorder:
    """Attend as the tree says, and note what the layers ask for."""

    def __init__(self, packed: Packed) -> None:
        self._plan = TreeAttention.of(packed)
        self.settings: dict[int, LayerSettings] = {}
        self.calls = 0

    def attend(self, call: LayerCall) -> Tensor:
        self.calls += 1
        self.settings[call.layer] = LayerSettings(call.scale, call.window, call.softcap)
        return self._plan.attend(call)


def _architecture(config: Any) -> str:
    return str((getattr(config, "architectures", None) or [config.model_type])[0])


def _random_tree(policy: Policy) -> Tree:
    """Branches at two depths, segments of one token, and as deep as the context allows up to 16."""
    draw = np.random.default_rng(0)
    unit = max(1, min(policy.context_length // 4, 4))
    lengths_and_parents = [(unit, -1), (unit, 0), (1, 1), (unit, 1), (unit, 3), (2, 0), (1, 0)]
    segments = [
        Segment(Source.POLICY if parent >= 0 else Source.PROMPT, draw.integers(policy.vocabulary_size, size=n), parent)
        for n, parent in lengths_and_parents
    ]
    return Tree("parity", "parity", tuple(segments))


def _stock(policy: Policy, tree: Tree) -> Tensor:
    """[T, V] log-probabilities after each token of the tree, by the stock model, one row per path."""
    flat = tree.flat
    result = torch.empty(len(flat), policy.vocabulary_size, device=policy.device, dtype=torch.float32)
    policy.model.set_attn_implementation("eager")
    try:
        for leaf in tree.leaves:
            path = np.concatenate([np.arange(flat.starts[s], flat.ends[s]) for s in tree.path(leaf)])
            row = torch.as_tensor(flat.tokens[path], device=policy.device).unsqueeze(0)
            result[torch.as_tensor(path)] = _log_probs(policy, row)
        changed = row.clone()
        changed[0, -1] = (changed[0, -1] + 1) % policy.vocabulary_size
        looks_ahead = float((_log_probs(policy, row) - _log_probs(policy, changed))[:-1].abs().max())
    finally:
        policy.model.set_attn_implementation(ATTENTION_NAME)
    if looks_ahead > TOLERANCE[policy.dtype]:
        raise PolicyError(
            f"{policy.name}: {_architecture(policy.model.config)} looks at later tokens (it is an encoder): changing "
            f"the last token changes earlier log-probabilities by {looks_ahead:.2g}.",
            hint="choose a causal decoder.",
        )
    return result


def _log_probs(policy: Policy, row: Tensor) -> Tensor:
    return torch.log_softmax(policy.model(input_ids=row, use_cache=False).logits[0].float(), -1)


def _check_layers(policy: Policy, architecture: str, recorder: _Recorder) -> None:
    config = policy.model.config.get_text_config(decoder=True)
    layers = config.num_hidden_layers
    if recorder.calls != layers or len(recorder.settings) != layers:
        raise PolicyError(
            f"{policy.name}: only {len(recorder.settings)} of the {layers} layers of {architecture} attend through the "
            "attention interface of transformers.",
            hint="choose a model whose class in transformers supports custom attention functions.",
        )
    for layer, expected in enumerate(_windows(config, layers)):
        asked = recorder.settings[layer].window
        if _within(asked, policy.context_length) != _within(expected, policy.context_length):
            raise PolicyError(
                f"{policy.name}: layer {layer} of {architecture} should have the window {expected}, asks for {asked}.",
                hint="choose a model whose layers pass their sliding window on.",
            )


def _windows(config: Any, layers: int) -> list[int | None]:
    """The sliding window of every layer by the configuration."""
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    if types is None:
        return [window if getattr(config, "use_sliding_window", True) else None] * layers
    return [window if kind == "sliding_attention" else None for kind in types]


def _within(window: int | None, context_length: int) -> int | None:
    """A window that no path can exceed is none."""
    return window if window is not None and window < context_length else None
