"""The path of the compounding-error study, walked by a tiny language model that an expert taught.

Every turn the environment says a letter, and the right answer is another letter; after a wrong one it says "?", until
the answer is "!". The expert knows all of that. Cloning lets the expert walk, and so never meets a "?"; DAgger lets the
policy walk from the second round on, and asks the expert what it should have said. Both are `laurel.dagger`, with a
mixture of 1 and of 0, over the same steps and no more questions. In the control no answer leads back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import laurel
from laurel.environments import Conversation, Dialogue, Turn
from laurel.rollout import Job, LocalSampler
from laurel.tasks import Task, TaskSet
from laurel.theory import log_log_slope
from laurel.tree import Ending, Source, Tree
from studies.intervals import bootstrap_interval

HORIZONS = (4, 8, 16, 32)
SEEDS = 5
ROLLOUTS = 512
ANSWERS = dict(zip("abcdefgh", "stuvwxyz", strict=True))
LOST, BACK = "?", "!"
# Without it the first letter would have nothing before it, and be read less surely than all others.
INTRODUCTION = "." * 8
MIXTURES = {"cloning": 1.0, "DAgger": 0.0}
STEPS, ROUND_STEPS, PROMPTS = 70, 7, 8
LEARNING_RATE = 1e-2

Costs = npt.NDArray[np.float64]


class Walk(Conversation):
    """The path: a reward of -1 for every turn that ends beside it.

    Args:
        turns: its length.
        recoverable: whether BACK leads to it again.
    """

    runs_in_process = True

    def __init__(self, turns: int, *, recoverable: bool) -> None:
        self.turns = turns
        self.recoverable = recoverable

    @property
    def description(self) -> str:
        """What a run records of it."""
        return f"{self.turns} turns, {'with' if self.recoverable else 'without'} a way back"

    def converse(self, task: Task, rollout_id: str) -> Dialogue:
        """See `Conversation`; the letters follow from the task."""
        letters = np.random.default_rng(int(task.id)).choice(list(ANSWERS), size=self.turns).tolist()
        said = yield INTRODUCTION + letters[0]
        on_path = said == ANSWERS[letters[0]]
        for letter in letters[1:]:
            was_on_path = on_path
            said = yield Turn(letter if on_path else LOST, reward=-float(not on_path))
            on_path = said == ANSWERS[letter] if was_on_path else self.recoverable and said == BACK
        return -float(not on_path)


def expert(task: Task, dialogue: tuple[str, ...]) -> str:
    """The right answer everywhere; beside the path it is the way back, whether or not that leads anywhere."""
    return ANSWERS.get(dialogue[-1][-1], BACK)


expert.runs_in_process = True  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Taught:
    """A policy, and how many questions it cost to teach it."""

    policy: laurel.policy.Policy
    questions: int


def taught(learner: str, turns: int, *, recoverable: bool, seed: int, steps: int = STEPS) -> Taught:
    """A policy from nothing, taught by cloning or DAgger."""
    alphabet = "".join([*ANSWERS, *ANSWERS.values(), LOST, BACK, INTRODUCTION[0]])
    policy = laurel.policy.tiny(
        alphabet=alphabet, hidden_size=32, layers=1, heads=2, context_length=4 * turns + 12, seed=seed
    )
    with tempfile.TemporaryDirectory() as directory:
        run = laurel.train(
            policy=policy,
            tasks=TaskSet("paths", tuple(Task(f"{number}", INTRODUCTION) for number in range(1000))),
            algorithm=laurel.dagger(mixture=MIXTURES[learner], round_steps=ROUND_STEPS, prompts_per_update=PROMPTS),
            environment=Walk(turns, recoverable=recoverable),
            expert=expert,
            steps=steps,
            prompts_per_step=PROMPTS,
            samples_per_prompt=1,
            limits=laurel.Limits(max_new_tokens=3, max_turns=turns),
            optimiser=laurel.OptimiserSettings(learning_rate=LEARNING_RATE),
            seed=seed,
            run=Path(directory) / "run",
        )
        return Taught(policy, int(sum(metric.sum for _, metric in run.metric("queries"))))


def walked(
    policy: laurel.policy.Policy, turns: int, *, recoverable: bool, seed: int, rollouts: int = ROLLOUTS
) -> list[Tree]:
    """Walks of the policy alone, on tasks that it was not taught on."""
    limits = laurel.Limits(max_new_tokens=3, max_turns=turns)
    sampler = LocalSampler(policy, laurel.Sampling(), limits, max_live_rows=rollouts, seed=seed)
    environment = Walk(turns, recoverable=recoverable)
    jobs = [Job(f"{number}", Task(f"{10**6 + number}", INTRODUCTION), 1, environment) for number in range(rollouts)]
    return sampler.collect(jobs, policy_version=0)


def cost_so_far(trees: Sequence[Tree], turns: int) -> Costs:
    """[turns] the mean number of turns that ended beside the path, among the first 1, 2, ... turns.

    A walk that was cut off in the middle of an answer never comes back: that turn and all after it count.
    """
    beside = np.ones((len(trees), turns))
    for number, tree in enumerate(trees):
        (rollout,) = tree.rollouts
        rewards = [segment.reward for segment in rollout.segments if segment.source is Source.POLICY]
        if rollout.outcome is not None and rollout.outcome.ending is not Ending.TERMINATED:
            rewards.pop()
        beside[number, : len(rewards)] = -np.array(rewards)
    return np.asarray(beside.mean(axis=0).cumsum())


@dataclass(frozen=True)
class Measured:
    """What one learner came to over several seeds: costs [seeds, horizons], and the questions of each seed."""

    costs: Costs
    questions: list[int]


def measured_costs(seeds: int = SEEDS, horizons: Sequence[int] = HORIZONS) -> dict[tuple[str, bool], Measured]:
    """By learner and whether there is a way back; a clone, which never met one, walks in both worlds."""
    turns = horizons[-1]
    costs: dict[tuple[str, bool], list[Costs]] = {}
    questions: dict[tuple[str, bool], list[int]] = {}
    for seed in range(seeds):
        clone = taught("cloning", turns, recoverable=True, seed=seed)
        for recoverable in (True, False):
            learners = {"cloning": clone, "DAgger": taught("DAgger", turns, recoverable=recoverable, seed=seed)}
            for name, learner in learners.items():
                walks = walked(learner.policy, turns, recoverable=recoverable, seed=1000 + seed)
                own = cost_so_far(walks, turns)[np.array(horizons) - 1]
                costs.setdefault((name, recoverable), []).append(own)
                questions.setdefault((name, recoverable), []).append(learner.questions)
                print(f"seed {seed}, {name}, {'a' if recoverable else 'no'} way back: {np.round(own, 3)}", flush=True)
    return {key: Measured(np.array(costs[key]), questions[key]) for key in costs}


def slope_with_interval(costs: Costs, horizons: Sequence[int] = HORIZONS) -> tuple[float, tuple[float, float]]:
    """The power of T by which the mean over seeds grows, and its bootstrap interval (95 %) over seeds."""

    def slope(seeds: npt.ArrayLike) -> float:
        return log_log_slope(horizons, costs[np.asarray(seeds, np.int64)].mean(axis=0).tolist())

    everyone = np.arange(len(costs), dtype=np.float64)
    return slope(everyone), bootstrap_interval(everyone, slope)
