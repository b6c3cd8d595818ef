"""What an update inside a trust region costs beside one of GRPO on the same task: python benchmarks/trust_region.py

Processor seconds of one update (medians), one thread. The policies are those of the tests and studies: small.
"""

from __future__ import annotations

import statistics
import time

import torch

import laurel
from laurel.algorithms import Algorithm
from laurel.learner import Learner
from laurel.policy import Policy, tiny
from laurel.rollout import Job, LocalSampler
from laurel.tasks import Task

SHAPES = {"1 layer of 64": {"hidden_size": 64, "layers": 1}, "2 layers of 128": {"hidden_size": 128, "layers": 2}}
PROMPTS, SAMPLES, TOKENS, UPDATES = 16, 8, 8, 7


def update_seconds(algorithm: Algorithm, policy: Policy) -> float:
    """The median of some updates, each on new samples whose reward is how many letters a they have."""
    learner = Learner(policy, algorithm)
    sampler = LocalSampler(policy, laurel.Sampling(), laurel.Limits(max_new_tokens=TOKENS), seed=0)
    tasks = {f"{place}": Task(f"{place}", f"{place:x}:") for place in range(PROMPTS)}
    spent = []
    with laurel.rewards.Grader(lambda task, text: text.count("a") / TOKENS) as grader:
        for step in range(1, UPDATES + 1):
            jobs = [Job(f"{step}.{name}", task, SAMPLES, None) for name, task in tasks.items()]
            trees, _ = grader.grade(sampler.collect(jobs, policy_version=learner.version), tasks)
            credits = learner.credit(trees)
            before = time.process_time()
            learner.update(trees, credits, step)
            spent.append(time.process_time() - before)
    return statistics.median(spent[1:])


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| policy | grpo | trpo, 10 iterations | ratio |\n|---|---|---|---|")
    for title, shape in SHAPES.items():
        grpo, trpo = (
            update_seconds(method, tiny(alphabet="0123456789abcdef:", context_length=32, **shape))
            for method in (laurel.grpo(), laurel.trpo(iterations=10))
        )
        print(f"| {title} | {grpo:.4f} s | {trpo:.4f} s | {trpo / grpo:.1f} |", flush=True)


if __name__ == "__main__":
    main()
