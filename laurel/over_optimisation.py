"""Proxy against gold along a run: what the reward model says, what is true, and how far the policy has gone.

The distance is the square root of KL(policy, policy at the start): over it, gold rewards rise and fall like parabolas
(Gao et al., arXiv 2210.10760, section 3.1), and best-of-n, which trains nothing, stands on the same axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from laurel.best_of import best_of_kl, expected_best
from laurel.errors import ConfigurationError
from laurel.evaluation import averaged, interval
from laurel.policy import Reference, pack
from laurel.rewards import Grader
from laurel.rollout import Job, LocalSampler
from laurel.runs import RunReader
from laurel.tasks import TaskSet
from laurel.tree import FloatArray, Rollout, Tree

TOKENS_PER_PASS = 4096
"""Distinct tokens in one forward pass of the reference; only a single tree exceeds it."""


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks with its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float] | FloatArray) -> Estimate:
        """The mean of some values with its interval."""
        return cls(*interval(np.asarray(values, np.float64)))

    def __str__(self) -> str:
        return f"{self.mean:6.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Point:
    """One policy, judged by both rewards.

    Attributes:
        name: what it is: "step 40", "best of 16".
        gold, proxy: rewards of its held-out answers; None where it was not judged by that one.
        kl: in nats per answer, from the policy at the start; None where there is no such policy yet.
    """

    name: str
    gold: Estimate
    proxy: Estimate | None
    kl: float | None

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Point:
        """From plain data, as `described` gives it."""
        gold, proxy = (None if described[key] is None else Estimate(**described[key]) for key in ("gold", "proxy"))
        assert gold is not None
        return cls(described["name"], gold, proxy, described["kl"])

    @property
    def distance(self) -> float:
        """The square root of the KL; an estimate below 0 counts as 0."""
        return math.sqrt(max(0.0, self.kl or 0.0))

    @property
    def described(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def course(run: RunReader, start: Reference, *, proxy: str = "held_out", gold: str = "watched") -> list[Point]:
    """A point for every step that a run was evaluated after, from the answers that it recorded.

    Args:
        run: of `laurel.train` with `held_out` and `watched_reward`.
        start: the policy at its start.
        proxy, gold: the names of the evaluations by either reward.
    """
    points = []
    for step in sorted({evaluation.step for evaluation in run.evaluations() if evaluation.name == proxy}):
        judged = {name: run.evaluation_trees(name, step) for name in (proxy, gold)}
        kl = float(np.mean(kl_from(start, judged[proxy])))
        points.append(Point(f"step {step}", scores(judged[gold]), scores(judged[proxy]), kl))
    return points


def scores(trees: Sequence[Tree]) -> Estimate:
    """The mean reward of some answers over their tasks."""
    found = averaged("", trees)
    return Estimate(found.mean, found.low, found.high)


def kl_from(start: Reference, trees: Sequence[Tree]) -> FloatArray:
    """[tasks] the estimate log p(answer) - log p_start(answer), averaged over each task's answers; in nats.

    p is the distribution that the answers were drawn from, and p_start the same sampling from the other weights, so the
    mean over tasks is an estimate without bias of KL(p, p_start) per answer.

    Raises:
        ConfigurationError: an answer was drawn from a truncated distribution, whose KL may be infinite.
    """
    found: list[float] = []
    batch: list[Tree] = []
    for tree in trees:
        if any(segment.sampling is not None and segment.sampling.truncates for segment in tree.segments):
            raise ConfigurationError(
                "The KL of truncated sampling cannot be measured.", hint="leave top_k, top_p and min_p out of sampling."
            )
        if batch and sum(len(one.flat) for one in (*batch, tree)) > TOKENS_PER_PASS:
            found += _log_ratios(start, batch)
            batch = []
        batch.append(tree)
    return np.array(found + (_log_ratios(start, batch) if batch else []))


def _log_ratios(start: Reference, trees: Sequence[Tree]) -> list[float]:
    masks = [tree.flat.policy & ~np.isnan(tree.flat.sampler_log_probs) for tree in trees]
    device = next(iter(start.tensors().values())).device
    packed = pack(trees, masks, device)
    said = start.token_scores(packed, entropy=False).log_probs.double().cpu().numpy()
    means, done = [], 0
    for tree, mask in zip(trees, masks, strict=True):
        ratios = np.zeros(len(tree.flat))
        count = int(mask.sum())
        ratios[mask] = tree.flat.sampler_log_probs[mask] - said[done : done + count]
        done += count
        starts, ends = tree.flat.starts, tree.flat.ends
        answers = [
            sum(float(ratios[starts[s] : ends[s]].sum()) for s in tree.path(rollout.leaf)) for rollout in tree.rollouts
        ]
        means.append(float(np.mean(answers)))
    return means


@dataclass(frozen=True)
class Drawn:
    """Answers of one policy to held-out tasks under both rewards, [tasks][answers].

    Tasks of which an answer failed under either are left out.
    """

    proxy: list[list[float]]
    gold: list[list[float]]

    def best_of(self, n: int) -> Point:
        """The answer that the proxy likes best among n, judged by both."""
        pairs = list(zip(self.proxy, self.gold, strict=True))
        gold = Estimate.of([expected_best(proxy, values, n) for proxy, values in pairs])
        proxy = Estimate.of([expected_best(proxy, proxy, n) for proxy, _ in pairs])
        return Point(f"best of {n}", gold, proxy, best_of_kl(n))

    @property
    def proxy_scale(self) -> tuple[float, float]:
        """Mean and standard deviation of the proxy over all answers."""
        every = np.concatenate([np.asarray(some) for some in self.proxy])
        return float(every.mean()), float(every.std()) or 1.0


def draw(sampler: LocalSampler, tasks: TaskSet, proxy: Grader, gold: Grader, *, samples: int) -> Drawn:
    """`samples` answers to each task, judged by both rewards.

    Raises:
        RewardError: too many cannot be judged.
    """
    jobs = [Job(f"best.{index}", task, samples, None) for index, task in enumerate(tasks)]
    trees = sampler.collect(jobs, policy_version=0)
    by_id = {task.id: task for task in tasks}
    judged = [grader.grade(trees, by_id)[0] for grader in (proxy, gold)]
    said: tuple[list[list[float]], list[list[float]]] = ([], [])
    for pair in zip(*judged, strict=True):
        if not any(_failed(rollout) for tree in pair for rollout in tree.rollouts):
            for kept, tree in zip(said, pair, strict=True):
                kept.append([rollout.reward for rollout in tree.rollouts])
    return Drawn(*said)


def _failed(rollout: Rollout) -> bool:
    return rollout.outcome is None or rollout.outcome.failed


def described(points: Sequence[Point]) -> list[Mapping[str, Any]]:
    """Points as plain data."""
    return [point.described for point in points]


def best_point(points: Sequence[Point]) -> Point:
    """The one of the highest gold reward."""
    return max(points, key=lambda point: point.gold.mean)
