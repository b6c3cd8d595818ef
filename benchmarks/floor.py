"""The least that a step must compute, and how fast this machine multiplies matrices."""

import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from workloads import Workload

from laurel.policy import products


def forward_operations(model: Path, workload: Workload, answer_tokens: Sequence[int]) -> int:
    """Floating-point operations of one forward pass over the distinct tokens of one step.

    Distinct: a prompt counts once, whatever its number of answers, and an answer's last token is never an input.
    With p prompt tokens, n prompts and answers of length l, and a multiply-add counted as two:

        inputs      n p + sum (l - 1)                        each meets every weight of every layer once
        predicted   n + sum (l - 1)                          each meets the output head once
        pairs       n p (p + 1) / 2 + sum over answers of (p + 1) + ... + (p + l - 1)
                                                             each costs 2 head_dim for the score, 2 for the value

    Norms, rotations, softmax and the optimiser are left out: this is a floor.
    """
    config = json.loads((model / "config.json").read_text())
    heads, key_value_heads = config["num_attention_heads"], config["num_key_value_heads"]
    hidden, head, layers = config["hidden_size"], config["head_dim"], config["num_hidden_layers"]
    weights = hidden * head * (2 * heads + 2 * key_value_heads) + 3 * hidden * config["intermediate_size"]
    prompts, width = workload.prompts_per_step, workload.prompt_tokens
    continued = sum(length - 1 for length in answer_tokens)
    pairs = prompts * width * (width + 1) // 2
    pairs += sum((length - 1) * width + length * (length - 1) // 2 for length in answer_tokens)
    return (
        2 * layers * weights * (prompts * width + continued)
        + 2 * hidden * config["vocab_size"] * (prompts + continued)
        + 4 * layers * heads * head * pairs
    )


def step_operations(model: Path, workload: Workload, answer_tokens: Sequence[int]) -> int:
    """Operations of a whole step: one forward to sample, one forward to learn, and a backward of twice that."""
    return 4 * forward_operations(model, workload, answer_tokens)


def matrix_rate(threads: int, sizes: Sequence[int] = (512, 1024, 1536), repetitions: int = 5) -> float:
    """Floating-point operations per second of the fastest of some float32 square products, by any library at hand."""
    torch.set_num_threads(threads)
    fastest = 0.0
    with torch.inference_mode():
        for size, product in itertools.product(sizes, (torch.mm, products.linear)):
            left, right = torch.randn(size, size), torch.randn(size, size)
            for _ in range(repetitions):
                start = time.perf_counter()
                product(left, right)
                fastest = max(fastest, 2 * size**3 / (time.perf_counter() - start))
    return fastest
