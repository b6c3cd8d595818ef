"""Model directories with tiny random weights, random trees, and the slow reference that reads one row per token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from laurel.policy.tiny import END, PAD, character_tokenizer
from laurel.tree import Flat, Segment, Source, Tree

ALPHABET = "abcdefghijklmnopqrstuvwxyz 0123456789"
VOCABULARY = [PAD, END, *ALPHABET]
SHAPE = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}


def _gemma(kind: type, **more: Any) -> Any:
    return kind(
        **SHAPE,
        head_dim=8,
        sliding_window=5,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention"],
        **more,
    )


ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "qwen3-tied": lambda: transformers.Qwen3Config(**SHAPE, head_dim=8, tie_word_embeddings=True),
    "qwen3-untied": lambda: transformers.Qwen3Config(**SHAPE, head_dim=8, tie_word_embeddings=False),
    "llama": lambda: transformers.LlamaConfig(**SHAPE, tie_word_embeddings=False, attention_bias=True),
    "mistral-window": lambda: transformers.MistralConfig(**SHAPE, sliding_window=4),
    "gemma3-window": lambda: _gemma(transformers.Gemma3TextConfig),
    "gemma2-softcap": lambda: _gemma(
        transformers.Gemma2Config, attn_logit_softcapping=2.0, final_logit_softcapping=3.0
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=len(VOCABULARY),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.2,
    ),
    "phi3": lambda: transformers.Phi3Config(**{**SHAPE, "num_key_value_heads": 4}, sliding_window=6),
    "granite-scaled": lambda: transformers.GraniteConfig(**SHAPE, logits_scaling=2.5, attention_multiplier=0.3),
    "phi-bias": lambda: transformers.PhiConfig(**{**SHAPE, "num_key_value_heads": 4}),
}


def write_model(directory: Path, config: Any, model_class: Any = transformers.AutoModelForCausalLM) -> Path:
    """A directory with random weights of this configuration and a character tokenizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = model_class.from_config(config)
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms and biases start at constants that would hide mistakes
                parameter.data.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory)
    character_tokenizer(VOCABULARY, 64).save_pretrained(directory)  # type: ignore[attr-defined]
    return directory


def random_tree(seed: int, *, segments: int = 7, vocabulary: int = len(VOCABULARY), longest: int = 6) -> Tree:
    """A tree of random shape whose paths are longer than the windows above."""
    draw = np.random.default_rng(seed)
    parts = [Segment(Source.PROMPT, draw.integers(vocabulary, size=draw.integers(1, longest + 1)), -1)]
    for index in range(1, segments):
        source = Source.POLICY if draw.random() < 0.8 else Source.ENVIRONMENT
        tokens = draw.integers(vocabulary, size=draw.integers(1, longest + 1))
        parts.append(Segment(source, tokens, int(draw.integers(max(0, index - 3), index))))
    return Tree.build(f"tree{seed}", "task", parts)


def ancestors(flat: Flat) -> np.ndarray:
    """[T, T] by walking up the parents: the definition."""
    seen = np.zeros((len(flat), len(flat)), np.bool_)
    for token in range(len(flat)):
        above = token
        while above >= 0:
            seen[token, above] = True
            above = int(flat.parent[above])
    return seen


def stock_log_probs(model: Any, tree: Tree, mask: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The slow reference: one eager forward pass per scored token, over the row of its path."""
    flat = tree.flat
    log_probs, entropies = [], []
    model.set_attn_implementation("eager")
    for token in np.flatnonzero(mask):
        path = [int(token)]
        while flat.parent[path[-1]] >= 0:
            path.append(int(flat.parent[path[-1]]))
        row = torch.as_tensor(flat.tokens[path[::-1]].copy()).unsqueeze(0)
        scores = torch.log_softmax(model(input_ids=row[:, :-1], use_cache=False).logits[0, -1], -1)
        log_probs.append(scores[row[0, -1]])
        entropies.append(-(scores.exp() * scores).sum())
    model.set_attn_implementation("laurel")
    return torch.stack(log_probs), torch.stack(entropies)
