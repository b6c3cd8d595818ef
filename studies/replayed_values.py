"""PPO against replayed value learning: how often either collapses, by learning rate.

    python -m studies.replayed_values

The task is in `replay_learners`: four turns, 40 states that merge, a single reward at the end; returns are exact.
`laurel.ppo` uses a round of 32 rollouts for 4 optimiser steps, or for 16, and forgets it. Soft Q-learning keeps all
rollouts and learns from random tokens of them, in 4 steps a round, in 16, and in 16 without a target network. All
see the same number of rollouts, with networks of the same size (PPO has a second one, its critic); 24 seeds each.

A run has collapsed if its last return is below half of its own best, or below that of the untrained policy. It fell if
at any time, once it had reached 0.5, its return was below half of its best so far. Which of the two kinds of learning
is the more stable on language models is contested (arXiv 2603.23355); a task of 40 states cannot settle it.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch

from laurel.evaluation import wilson
from laurel.picture import Line, Panel
from laurel.theory import soft_bellman_policy
from studies.intervals import quartiles
from studies.publishing import publish, table
from studies.replay_learners import (
    DECAY,
    FOLLOWED,
    HIDDEN,
    ROLLOUTS,
    TEMPERATURE,
    TOKENS,
    Learner,
    ProximalPolicy,
    ReplayedValues,
    chart,
    course,
)

Array = npt.NDArray[np.float64]
SEEDS, ROUNDS = 24, 150
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SHOWN = range(0, ROUNDS + 1, 5)
LEARNED = 0.5
METHODS: dict[str, Callable[[list[int], float], Learner]] = {
    "PPO, 4 steps": ProximalPolicy,
    "PPO, 16 steps": lambda seeds, rate: ProximalPolicy(seeds, rate, updates=16),
    "replayed values, 4 steps": ReplayedValues,
    "replayed values, 16 steps": lambda seeds, rate: ReplayedValues(seeds, rate, updates=16),
    "replayed values, 16 steps, no target network": lambda seeds, rate: ReplayedValues(
        seeds, rate, updates=16, target=False
    ),
}


def collapsed(returns: Array) -> bool:
    """Whether the last of the returns [rounds + 1] is below half of the best of them, or below the first."""
    return bool(returns[-1] < returns.max() / 2 or returns[-1] < returns[0])


def fell(returns: Array) -> bool:
    """Whether any return was below half of the best before it, once that best was at least `LEARNED`."""
    best = np.maximum.accumulate(returns)
    return bool(((best >= LEARNED) & (returns < best / 2)).any())


@dataclass(frozen=True)
class Measured:
    """What one method did at one learning rate.

    Attributes:
        rate: the learning rate.
        collapsed, fell: shares of the seeds, with the ends of their Wilson intervals.
        reached: share of the seeds whose last return is at least 0.9.
        final: quartiles of the last return.
        mean_return: over all rounds and seeds, so that runs which collapsed count: what the best rate is chosen by.
        low, median, high: quartiles of the return after the rounds in `SHOWN`.
    """

    rate: float
    collapsed: tuple[float, float, float]
    fell: tuple[float, float, float]
    reached: float
    final: tuple[float, float, float]
    mean_return: float
    low: list[float]
    median: list[float]
    high: list[float]

    @classmethod
    def of(cls, rate: float, returns: Array) -> Measured:
        """Args: returns: [N, rounds + 1]."""
        low, median, high = quartiles(returns)
        return cls(
            rate,
            wilson(sum(map(collapsed, returns)), len(returns)),
            wilson(sum(map(fell, returns)), len(returns)),
            float((returns[:, -1] >= 0.9).mean()),
            (low[-1], median[-1], high[-1]),
            float(returns.mean()),
            *([round(curve[place], 4) for place in SHOWN if place < len(curve)] for curve in (low, median, high)),
        )


def measure(job: tuple[str, float]) -> Measured:
    """All seeds of one method at one rate."""
    torch.set_num_threads(1)
    method, rate = job
    seeds = list(range(SEEDS))
    return Measured.of(rate, course(METHODS[method](seeds, rate), seeds, ROUNDS).numpy())


def soft_optimum() -> float:
    """The return of the policy that soft Q-learning would end with, were it exact."""
    world = chart().world
    uniform = torch.zeros(len(world.states), TOKENS, dtype=torch.float64)
    chances = torch.zeros(1, len(world.states), TOKENS, dtype=torch.float64)
    for history, policy in soft_bellman_policy(world, uniform, TEMPERATURE).items():
        chances[0, world.states[world.state(history)]] = torch.from_numpy(policy)
    return float(chart().returned(chances))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    jobs = [(method, rate) for method in METHODS for rate in RATES]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(parser.parse_args().workers, mp_context=spawn) as pool:
        done = list(pool.map(measure, jobs))
    found: dict[str, list[Measured]] = {method: [] for method in METHODS}
    for (method, _), one in zip(jobs, done, strict=True):
        found[method].append(one)
    rows = [
        [method, f"{one.rate:g}", _share(one.collapsed), _share(one.fell), f"{one.reached:.0%}",
         " ".join(f"{value:.3f}" for value in one.final), f"{one.mean_return:.3f}"]
        for method, many in found.items() for one in many
    ]  # fmt: skip
    header = ["method", "rate", "collapsed", "fell", "at 0.9", "last return, quartiles", "mean return"]
    print(table(header, rows))
    best = {method: _best(many) for method, many in found.items()}
    for method, one in best.items():
        print(f"{method}: best learning rate {one.rate:g}")
    untrained = float(chart().returned(torch.full((1, len(chart().following), TOKENS), 1 / TOKENS).double()))
    print(f"untrained {untrained:.3f}; optimum 1; optimum of soft Q-learning at temperature 0.1 {soft_optimum():.4f}")
    numbers = {
        "seeds": SEEDS, "rounds": ROUNDS, "rollouts": ROLLOUTS, "hidden": HIDDEN, "temperature": TEMPERATURE,
        "decay": DECAY, "target_follows": FOLLOWED, "untrained": untrained, "optimum": 1.0,
        "soft_optimum": soft_optimum(), "curve_rounds": list(SHOWN),
        "best_rate": {method: one.rate for method, one in best.items()},
        "methods": {method: [asdict(one) for one in many] for method, many in found.items()},
    }  # fmt: skip
    publish("replayed_values", "PPO and replayed value learning, 24 seeds each", numbers, _panels(found), columns=2)


def _best(many: list[Measured]) -> Measured:
    return max(many, key=lambda one: one.mean_return)


def _share(seen: tuple[float, float, float]) -> str:
    return f"{seen[0]:.0%} [{seen[1]:.0%}, {seen[2]:.0%}]"


def _panels(found: dict[str, list[Measured]]) -> list[Panel]:
    courses: list[Line] = []
    finals: list[Line] = []
    ends: list[Line] = []
    falls: list[Line] = []
    for colour, (method, many) in enumerate(found.items()):
        one = _best(many)
        courses.append(Line(f"{method}; rate {one.rate:g}", SHOWN, one.median, one.low, one.high, colour=colour))
        low, middle, high = zip(*(one.final for one in many), strict=True)
        finals.append(Line(method, RATES, middle, low, high, colour=colour, marked=True))
        for lines, shares in ((ends, [one.collapsed for one in many]), (falls, [one.fell for one in many])):
            middle, low, high = zip(*shares, strict=True)
            lines.append(Line(method, RATES, middle, low, high, colour=colour, marked=True))
    share = (-0.02, 1.02)
    return [
        Panel("Each at its best rate: median, quartiles", "rounds", "expected return", courses, y_range=share),
        Panel("Last return: median, quartiles", "learning rate", "expected return", finals, log_x=True,
              y_range=share),
        Panel("Collapsed at the end, 95 % interval", "learning rate", "share of seeds", ends, log_x=True,
              y_range=share),
        Panel("Fell below half on the way, 95 % interval", "learning rate", "share of seeds", falls, log_x=True,
              y_range=share),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
