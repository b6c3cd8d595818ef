"""One run of one method on one task from one start, and what became of it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import laurel
from laurel.evaluation import Evaluation
from laurel.metrics import Metric, merge
from laurel.policy import Policy
from laurel.runs import Run, current_versions
from laurel.tree import Source
from studies.learning_methods import algorithm, family_of, settings_of
from studies.learning_tasks import LearningTask, learning_tasks

PROMPTS, SAMPLES = 16, 8
EVALUATIONS, EVALUATION_SAMPLES = 8, 8
SHAPE: Mapping[str, Any] = {"hidden_size": 64, "layers": 1, "heads": 2, "context_length": 16, "initial_scale": 0.1}
"""Of the policy. From weights of the usual 0.02 the first updates push all prompts to one answer, which most runs that
failed never left; see `laurel.policy.tiny`."""
CLONING_STEPS, CLONING_RATE = 60, 3e-3


@dataclass(frozen=True)
class Learned:
    """What became of one run.

    Attributes:
        method, task, seed: which.
        settings: everything that was chosen, as text; a result counts as long as this is what would run now.
        steps, returns: the mean held-out return after so many updates.
        training_return: the mean reward of the samples of the last steps, as many as between two evaluations.
        sampled_tokens: drawn per step: samples, greedy answers and continuations, shared beginnings once.
        learner_tokens: distinct tokens per step that went through a forward and backward pass of the policy.
        seconds: of processor time per step, without evaluations.
        versions: what it ran on.
    """

    method: str
    task: str
    seed: int
    settings: str
    steps: list[int]
    returns: list[float]
    training_return: float
    sampled_tokens: float
    learner_tokens: float
    seconds: float
    versions: dict[str, str]

    @property
    def key(self) -> tuple[str, str, int, str]:
        return self.method, self.task, self.seed, self.settings


class Clock:
    """Processor seconds of the steps of a run, without its evaluations: what it cost, on a busy machine too."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = time.process_time()

    def of(self, title: str, steps: int) -> AbstractContextManager[object]:
        self._since = time.process_time()
        return nullcontext()

    def step(self, step: int, metrics: Mapping[str, Metric], timings: Mapping[str, float]) -> None:
        now = time.process_time()
        self.seconds += now - self._since
        self._since = now

    def evaluated(self, step: int, evaluation: Evaluation) -> None:
        self._since = time.process_time()

    def told(self, text: str) -> None:
        pass


def chosen(name: str, task: LearningTask) -> dict[str, Any]:
    """Everything that a run of this method depends on beside the seed and the program."""
    family = family_of(name)
    return {
        "method": settings_of(name, task.longest),
        "learning_rate": [family.learning_rate, "linear"],
        "critic_rate": family.critic_rate,
        "steps": task.steps,
        "prompts": PROMPTS,
        "samples": SAMPLES,
        "shape": dict(SHAPE),
        "cloned": None if task.known is None else [len(task.known), CLONING_STEPS, CLONING_RATE],
        "evaluation": [EVALUATIONS, EVALUATION_SAMPLES],
        "task": f"{task.title}; {len(task.training)} and {len(task.held_out)}",
    }


def untaught(task: LearningTask, seed: int, folder: Path) -> Policy:
    """The policy that a run starts with: random weights, which have cloned what is known before, if anything is."""
    policy = laurel.policy.tiny(alphabet=task.alphabet, seed=seed, **SHAPE)
    if task.known is not None:
        laurel.train(
            policy=policy,
            tasks=task.known,
            algorithm=laurel.clone(),
            steps=CLONING_STEPS,
            prompts_per_step=len(task.known),
            optimiser=laurel.OptimiserSettings(learning_rate=CLONING_RATE, schedule="linear"),
            checkpoint_every=CLONING_STEPS,
            seed=seed,
            run=folder / "cloning",
            progress=Clock(),
        )
    return policy


def learn(name: str, task_name: str, seed: int, *, steps: int | None = None) -> Learned:
    """Run one method on one task from one start."""
    torch.set_num_threads(1)
    task, family, clock = learning_tasks()[task_name], family_of(name), Clock()
    steps = steps or task.steps
    every = max(1, steps // EVALUATIONS)
    with tempfile.TemporaryDirectory() as folder:
        run = laurel.train(
            policy=untaught(task, seed, Path(folder)),
            tasks=task.training,
            held_out=task.held_out,
            algorithm=algorithm(name, task.longest),
            reward=task.reward,
            environment=task.environment,
            steps=steps,
            prompts_per_step=PROMPTS,
            samples_per_prompt=SAMPLES,
            limits=task.limits,
            optimiser=family.optimiser,
            critic=family.critic,
            evaluate_every=every,
            evaluation_samples=EVALUATION_SAMPLES,
            checkpoint_every=steps,
            seed=seed,
            run=Path(folder) / "run",
            progress=clock,
        )
        evaluations = run.evaluations()
        return Learned(
            name,
            task_name,
            seed,
            json.dumps(chosen(name, task)),
            [evaluation.step for evaluation in evaluations],
            [evaluation.metric.mean for evaluation in evaluations],
            merge({"reward": metric} for _, metric in run.metric("reward")[-every:])["reward"].mean,
            sampled_tokens(run) / steps,
            sum(metric.sum for _, metric in run.metric("computed_tokens")) / steps,
            clock.seconds / steps,
            current_versions() | {"device": "cpu"},
        )


def sampled_tokens(run: Run) -> int:
    """All tokens that the policy wrote in the steps of a run, those that were not learned from too."""
    trees = (tree for step in run.steps() for tree in (*run.trees(step), *run.discarded(step)))
    return sum(len(segment) for tree in trees for segment in tree.segments if segment.source is Source.POLICY)
