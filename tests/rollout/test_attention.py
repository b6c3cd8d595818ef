"""Cached attention in every form that architectures ask for, against the learner's packed computation."""

import pytest
import torch
from sampling_checks import ALPHABET, collect, jobs, same_draws, score_difference
from test_turns import Echo
from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM

from laurel.policy import Policy
from laurel.policy.load import assemble
from laurel.policy.tiny import END, PAD, character_tokenizer
from laurel.rollout import Job
from laurel.tasks import Task

SHAPE = {
    "vocab_size": len(ALPHABET) + 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "bos_token_id": None,
}


def windowed(window: int) -> Policy:
    """Grouped queries; all layers slide."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=window))
    return assemble("mistral", model, character_tokenizer([PAD, END, *ALPHABET], 128))


def capped(window: int) -> Policy:
    """Grouped queries, capped scores and logits, sliding and full layers by turns."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = Gemma2Config(
            **SHAPE, sliding_window=window, attn_logit_softcapping=2.0, final_logit_softcapping=5.0,
            query_pre_attn_scalar=8,
        )  # fmt: skip
        model = Gemma2ForCausalLM(config)
        with torch.no_grad():
            for layer in model.model.layers:
                layer.self_attn.q_proj.weight.mul_(20)  # so that the cap is felt
    return assemble("gemma", model, character_tokenizer([PAD, END, *ALPHABET], 128))


@pytest.mark.parametrize("window", [5, 48, 128])
@pytest.mark.parametrize("make", [windowed, capped])
def test_windows_caps_and_grouped_queries(make: object, window: int) -> None:
    policy: Policy = make(window)  # type: ignore[operator]
    asked = [
        *jobs(["ab", "a" * 40, "bc" * 25, "h" * 100], 4),
        *(Job(f"e{i}", Task("e", "x"), 4, Echo("b" * (3 + 40 * i))) for i in range(2)),
    ]
    trees = collect(policy, asked, max_turns=4, max_new_tokens=16, stop_strings=("c", "g"))
    assert score_difference(policy, trees) < 1e-5
    for options in ({"rows": 3}, {"static": True}):
        again = collect(policy, asked, max_turns=4, max_new_tokens=16, stop_strings=("c", "g"), **options)
        same_draws(again, trees)


@pytest.mark.parametrize("static", [False, True])
def test_uninitialised_memory_never_leaks(policy: Policy, static: bool) -> None:
    asked = [*jobs(["ab", "a" * 40, "bc" * 25, "h" * 100], 4), Job("e", Task("e", "a"), 4, Echo())]
    options = {"max_turns": 4, "max_new_tokens": 90, "stop_strings": ("c",)}
    clean = collect(policy, asked, **options)  # type: ignore[arg-type]
    torch.use_deterministic_algorithms(True)  # fills every empty tensor with NaN
    try:
        for rows in (3, 64):
            same_draws(collect(policy, asked, rows=rows, static=static, **options), clean)  # type: ignore[arg-type]
    finally:
        torch.use_deterministic_algorithms(False)
