"""What rewards without labels do to a policy that is mostly right, and to one that is mostly wrong.

    python -m studies.no_labels [--workers 2]

A transformer from scratch answers questions from hearsay (`recipes.hearsay`): to each kind one answer three times out
of four, and the other one else. Mostly right: the usual answer is right to six of eight kinds; mostly wrong: to two.
Then leave-one-out policy gradients learn from the vote of the siblings, semantic entropy, self-certainty, entropy, a
coin, or labels. Accuracy is that of answers to held-out questions of the same kinds, which nothing learns from.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import laurel
from laurel.picture import Line, Panel
from laurel.policy import negative_entropy, self_certainty
from laurel.rewards import Reward, exact_match, majority_vote, random_reward, semantic_entropy
from recipes import hearsay
from studies.intervals import bootstrap_interval, quartiles
from studies.learning import end_with_parent
from studies.publishing import publish, table

USUALLY_RIGHT = {"mostly right": 6, "mostly wrong": 2}
"""To how many of eight kinds of question the usual answer is right."""

SEEDS = 5
STEPS, EVERY = 40, 5
REWARDS = ("vote", "semantic entropy", "self-certainty", "entropy", "coin", "labels")


def reward_of(name: str, seed: int) -> Reward:
    """The reward of an arm."""
    rewards: dict[str, Reward] = {
        "vote": majority_vote(answer="text"),
        "semantic entropy": semantic_entropy(answer="text"),
        "self-certainty": self_certainty(),
        "entropy": negative_entropy(),
        "coin": random_reward(seed=seed),
        "labels": exact_match(),
    }
    return rewards[name]


def run(start: str, reward: str, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """Held-out accuracy by step, agreement of siblings by step, and when the alarm sounded (None: never)."""
    torch.set_num_threads(1)
    policy = hearsay.policy(USUALLY_RIGHT[start], seed)
    with tempfile.TemporaryDirectory() as folder:
        made = laurel.train(
            policy=policy,
            tasks=hearsay.questions(hearsay.TRAINED),
            held_out=hearsay.questions(4, first=hearsay.TRAINED),
            algorithm=laurel.rloo(),
            reward=reward_of(reward, seed),
            held_out_reward=exact_match(),
            alarm="warn",
            steps=steps,
            prompts_per_step=12,
            samples_per_prompt=16,
            evaluation_samples=8,
            evaluate_every=EVERY,
            limits=laurel.Limits(max_new_tokens=5),
            optimiser=laurel.OptimiserSettings(learning_rate=2e-3, betas=(0.9, 0.99)),
            checkpoint_every=steps,
            seed=seed,
            run=Path(folder) / "run",
        )
        with laurel.Run.open(made.directory) as kept:
            alarms = [event.step for event in kept.events("alarm")]
            return {
                "accuracy": [one.metric.mean for one in kept.evaluations() if one.name == "held_out"],
                "agreement": [metric.mean for _, metric in kept.metric("agreement")],
                "alarm": alarms[0] if alarms else None,
            }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds with their intervals, and how often the alarm sounded."""

    def mean(values: list[float]) -> list[float]:
        return [statistics.fmean(values), *bootstrap_interval(values, lambda some: float(np.mean(some)))]

    sounded = [one["alarm"] for one in runs if one["alarm"] is not None]
    return {
        "accuracy_before": mean([one["accuracy"][0] for one in runs]),
        "accuracy_after": mean([one["accuracy"][-1] for one in runs]),
        "agreement_after": mean([one["agreement"][-1] for one in runs]),
        "alarms": len(sounded),
        "alarm_step": statistics.median(sounded) if sounded else None,
        "runs": runs,
    }


def reported(start: str, found: dict[str, dict[str, Any]]) -> None:
    """Print what became of one start."""
    rows = [
        [
            name,
            *("{:.2f} ({:.2f} to {:.2f})".format(*one[key]) for key in ("accuracy_before", "accuracy_after")),
            "{:.2f}".format(one["agreement_after"][0]),
            f"{one['alarms']} of {len(one['runs'])}"
            + ("" if one["alarm_step"] is None else f", step {one['alarm_step']:g}"),
        ]
        for name, one in found.items()
    ]
    print(f"\na policy that is {start}")
    print(table(["reward", "accuracy before", "after", "agreement after", "alarm"], rows))


def panels_of(start: str, found: dict[str, dict[str, Any]]) -> list[Panel]:
    """Accuracy and agreement by step."""
    lines: dict[str, list[Line]] = {"accuracy": [], "agreement": []}
    for colour, (name, one) in enumerate(found.items()):
        for what, every, first in (("accuracy", EVERY, 0), ("agreement", 1, 1)):
            low, middle, high = quartiles(np.array([run[what] for run in one["runs"]]))
            x = [first + every * place for place in range(len(middle))]
            lines[what].append(Line(name, x, middle, low, high, colour=colour))
    return [
        Panel(f"A policy that is {start}", "step", "held-out accuracy", lines["accuracy"], y_range=(0, 1)),
        Panel(f"A policy that is {start}", "step", "agreement of siblings", lines["agreement"], y_range=(0.5, 1)),
    ]


def main() -> None:
    """Run all, report and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    numbers: dict[str, Any] = {"seeds": SEEDS, "steps": STEPS}
    panels: list[Panel] = []
    with ProcessPoolExecutor(arguments.workers, mp_context=spawn, initializer=end_with_parent) as pool:
        cells = {
            (start, reward): [pool.submit(run, start, reward, seed) for seed in range(SEEDS)]
            for start in USUALLY_RIGHT
            for reward in REWARDS
        }
        for start in USUALLY_RIGHT:
            found = {reward: summary([one.result() for one in cells[start, reward]]) for reward in REWARDS}
            reported(start, found)
            numbers[start] = found
            panels += panels_of(start, found)
    publish("no_labels", "Learning without labels, from two starts", numbers, panels, columns=2)


if __name__ == "__main__":
    main()
