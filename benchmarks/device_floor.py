"""How near sampling and learning come to what the device can do: decode against memory bandwidth, learning against the
matrix-multiply rate.

    python benchmarks/device_floor.py                                 # CUDA in bf16 with the Qwen3-0.6B shape
    python benchmarks/device_floor.py --device cpu --shape small      # the same script anywhere

Weights are random: speed does not depend on them. Writes everything under `benchmarks/results/`.
"""

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import torch
from models import tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

import laurel
from laurel.algorithms import Credit
from laurel.costs import matrix_rate
from laurel.learner import Learner
from laurel.policy import Policy
from laurel.policy.load import assemble
from laurel.rollout import Job, LocalSampler
from laurel.tasks import Task
from laurel.tree import Sampling, Tree

Result = TypeVar("Result")
SHAPES = {
    "qwen3-0.6b": {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True,
    },
    "small": {
        "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 128, "tie_word_embeddings": True,
    },
}  # fmt: skip
COPIED_BYTES = {"cuda": 2**32, "cpu": 2**28}


def random_policy(shape: str, device: torch.device, dtype: torch.dtype, context: int) -> Policy:
    """A policy of this shape with random weights, whose end token is practically never drawn."""
    characters = tokenizer()
    config = Qwen3Config(**SHAPES[shape], max_position_embeddings=context, eos_token_id=characters.eos_token_id)
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen3ForCausalLM(config).to(dtype)
    return assemble(shape, model, characters)


def timed(action: Callable[[], Result], device: torch.device) -> tuple[float, Result]:
    """Seconds of one call, the device's queue included, and what it returned."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def copy_rate(device: torch.device) -> float:
    """Bytes per second of a large copy on the device, read and written counted; the best of five."""
    source = torch.empty(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / min(timed(partial(target.copy_, source), device)[0] for _ in range(5))


def random_credit(tree: Tree) -> Credit:
    """A normal advantage for every token of the policy."""
    mask = np.array(tree.flat.policy)
    return Credit(np.where(mask, np.random.default_rng(0).normal(size=len(mask)), 0.0), mask)


def measure(options: argparse.Namespace) -> dict:
    """Medians over the repetitions, with both floors."""
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    policy = random_policy(options.shape, device, dtype, options.prompt_tokens + options.new_tokens + 8)
    sampler = LocalSampler(
        policy, Sampling(), laurel.Limits(max_new_tokens=options.new_tokens), max_live_rows=4096, seed=0
    )
    learner = Learner(policy, laurel.reinforce(), laurel.OptimiserSettings(learning_rate=1e-6))
    sampling, learning, tokens, distinct = [], [], [], []
    for step in range(options.repetitions + 1):
        prompts = np.random.default_rng(step).integers(10, 90, (options.prompts, options.prompt_tokens))
        jobs = [
            Job(f"{step}.{index}", Task(str(index), policy.decode(row)), options.samples)
            for index, row in enumerate(prompts)
        ]
        seconds, trees = timed(partial(sampler.collect, jobs, policy_version=step), device)
        sampling.append(seconds)
        credits = [random_credit(tree) for tree in trees]
        seconds, _ = timed(partial(learner.update, trees, credits, step), device)
        learning.append(seconds)
        tokens.append(sum(int(tree.flat.policy.sum()) for tree in trees))
        distinct.append(sum(len(tree.flat) for tree in trees))
    weights, size = policy.parameter_count, torch.finfo(dtype).bits // 8
    layers = SHAPES[options.shape]["num_hidden_layers"]
    mean_cache = options.prompts * (options.prompt_tokens + options.samples * options.new_tokens / 2)
    bytes_a_step = weights * size + mean_cache * 2 * layers * policy.key_value_width * size
    bandwidth, rate = copy_rate(device), matrix_rate(device, dtype)
    sample, learn = median(sampling[1:]), median(learning[1:])
    decode_floor = options.new_tokens * bytes_a_step / bandwidth
    learn_floor = 6 * weights * median(distinct[1:]) / rate
    return {
        "sampling_seconds": sample,
        "sampled_tokens_per_second": median(tokens[1:]) / sample,
        "decode_floor_seconds": decode_floor,
        "sampling_times_floor": sample / decode_floor,
        "learning_seconds": learn,
        "learning_floor_seconds": learn_floor,
        "learning_times_floor": learn / learn_floor,
        "copy_bytes_per_second": bandwidth,
        "matrix_operations_per_second": rate,
        "peak_device_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
    }


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-0.6b")
    for name, default in {
        "prompts": 8,
        "samples": 32,
        "prompt_tokens": 256,
        "new_tokens": 256,
        "repetitions": 5,
    }.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu --shape small runs anywhere")
    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    results = {
        "options": vars(options),
        "device": name,
        "versions": {package: version(package) for package in ("torch", "transformers")},
        "commit": commit,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **measure(options),
    }
    print(json.dumps(results, indent=1))
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    path = folder / f"device-{options.device}-{options.shape}-{results['date'].replace(':', '')}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
