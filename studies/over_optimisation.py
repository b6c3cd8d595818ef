"""Over-optimisation: what a fitted reward model is worth, the harder it is maximised, by how much it was told.

    python -m studies.over_optimisation [--workers 2]

A cook salts three of ten spoons; three of eight are best. The cook's dishes are compared in pairs by a teacher who is
right as often as Bradley-Terry says, a small transformer is fitted to the comparisons, and what it says is maximised.
All 6,561 dishes are listed, so nothing is lost in sampling or learning: at every KL from the cook the policy is exactly
the one that earns most of the fitted reward there,

    p(dish) proportional to cook(dish) exp(reward(dish) / beta),

and so are its gold reward, its KL, and best-of-n. What remains is the reward model's own error.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from laurel.best_of import best_of_kl
from laurel.judged import comparison
from laurel.learner import OptimiserSettings, RewardLearner
from laurel.objectives import BradleyTerry
from laurel.picture import Line, Panel
from laurel.policy import Policy, pessimistic, reward_model_for, tiny
from laurel.preferences import Kind, Preference, Query, ScriptedTeacher
from laurel.tasks import Task
from laurel.tree import Tree
from studies.learning import end_with_parent
from studies.publishing import publish, table

Array = npt.NDArray[np.float64]

SALT, SPOONS, BEST, SALTED = "s", 8, 3, 0.3
DISHES = ["".join(dish) for dish in itertools.product("sab", repeat=SPOONS)]
COOK = np.array([np.prod([SALTED if spoon == SALT else (1 - SALTED) / 2 for spoon in dish]) for dish in DISHES])
GOLD = np.array([float(BEST - abs(dish.count(SALT) - BEST)) for dish in DISHES])
PROMPT = Task("dish", ">")

PAIRS = (30, 100, 300, 3000)
SEEDS = 6
MEMBERS = 3
PESSIMISM = 1.0
STEPS, PAIRS_PER_STEP, LEARNING_RATE = 400, 32, 3e-3
INITIAL_SCALE = 0.15
"""Of the weights: from the usual 0.02 a model this narrow often tells no two dishes apart for hundreds of steps."""
DISTANCES = np.linspace(0, 2.9, 30)
"""Square roots of the KL at which policies are compared; 3.1 is salt alone."""
FALLEN = 0.1
CHOICES = (1, 2, 4, 8, 16, 64, 256, 1024, 4096)
ANSWERS_PER_TREE = 243


def comparisons(count: int, seed: int) -> list[Preference]:
    """What a teacher says of pairs of the cook's dishes."""
    generator = np.random.default_rng([seed, count])
    teacher = ScriptedTeacher(rationality=1.0, seed=seed)
    found: list[Preference] = []
    while len(found) < count:
        first, second = (int(place) for place in generator.choice(len(DISHES), size=2, p=COOK))
        if first == second:
            continue
        answers = (DISHES[first], DISHES[second])
        verdict = teacher(Query(PROMPT, answers, ((GOLD[first],), (GOLD[second],))))
        assert verdict is not None
        found.append(Preference(f"{len(found)}", ">", answers=answers, scores=(verdict, 1 - verdict)))
    return found


def fitted(data: Sequence[Preference], seed: int, member: int) -> Array:
    """[dishes] what a transformer from scratch says of every dish, fitted to the comparisons in an order of its own."""
    start = seed * MEMBERS + member
    reader = tiny(
        alphabet="sab>", hidden_size=16, layers=1, heads=2, context_length=12, initial_scale=INITIAL_SCALE, seed=start
    )
    settings = OptimiserSettings(learning_rate=LEARNING_RATE, schedule="linear", warmup_steps=10)
    learner = RewardLearner(reward_model_for(reader), BradleyTerry(), settings, total_steps=STEPS)
    trees = [comparison(reader, preference, f"{number}") for number, preference in enumerate(data)]
    generator = np.random.default_rng([seed, member])
    for _ in range(STEPS):
        size = min(PAIRS_PER_STEP, len(trees))
        learner.update([trees[place] for place in generator.choice(len(trees), size=size, replace=False)])
    said = np.concatenate(learner.rewards(listed(reader)))
    return said - float(COOK @ said)


def listed(reader: Policy) -> list[Tree]:
    """All dishes, as answers to one prompt; their scores are the gold rewards."""
    trees = []
    for start in range(0, len(DISHES), ANSWERS_PER_TREE):
        part = slice(start, start + ANSWERS_PER_TREE)
        every = Preference("all", ">", answers=tuple(DISHES[part]), scores=tuple(GOLD[part]), kind=Kind.RATING)
        trees.append(comparison(reader, every, f"all.{start}"))
    return trees


def maximised(reward: Array, temperature: float) -> tuple[Array, float]:
    """The policy that earns most of a reward at its KL from the cook, and that KL."""
    logits = np.log(COOK) + (reward - reward.max()) / temperature
    log_policy = logits - np.logaddexp.reduce(logits)
    policy = np.exp(log_policy)
    return policy, float(policy @ (log_policy - np.log(COOK)))


def at_distances(reward: Array, values: Sequence[Array]) -> Array:
    """[values, distances] the expectation of each under the policy that maximises the reward, at each distance.

    Where the reward does not lead that far, since nothing is left to gain, it is that of the distance before.
    """
    found = np.zeros((len(values), len(DISTANCES)))
    for place, distance in enumerate(DISTANCES):
        low, high = -12.0, 12.0  # of log(1 / temperature), in which the KL rises
        if maximised(reward, float(np.exp(-high)))[1] < distance**2:
            found[:, place] = found[:, place - 1]
            continue
        for _ in range(50):
            middle = (low + high) / 2
            if maximised(reward, float(np.exp(-middle)))[1] < distance**2:
                low = middle
            else:
                high = middle
        policy, _ = maximised(reward, float(np.exp(-high)))
        found[:, place] = [float(policy @ value) for value in values]
    return found


def best_of(reward: Array, n: int) -> float:
    """The gold reward of the dish that a reward likes best among n of the cook's, drawn with replacement."""
    order = np.argsort(reward, kind="stable")
    below = np.cumsum(COOK[order])
    chosen = np.diff(np.concatenate([[0.0], below**n]))
    return float(chosen @ GOLD[order] / chosen.sum())


def accuracy(reward: Array) -> float:
    """How often the better of two dishes of different worth, drawn from the cook, has the greater reward."""
    counts = sorted(set(GOLD))
    right = total = 0.0
    for low, high in itertools.combinations(counts, 2):
        worse, better = low == GOLD, high == GOLD
        order = np.argsort(reward[worse])
        below = np.concatenate([[0.0], np.cumsum(COOK[worse][order])])
        places = np.searchsorted(reward[worse][order], reward[better])
        right += float(COOK[better] @ below[places])
        total += float(COOK[better].sum() * COOK[worse].sum())
    return right / total


def measured(pairs: int, seed: int) -> dict[str, Any]:
    """One reward model and an ensemble of them."""
    torch.set_num_threads(1)
    data = comparisons(pairs, seed)
    said = np.stack([fitted(data, seed, member) for member in range(MEMBERS)])
    gold, proxy = at_distances(said[0], [GOLD, said[0]])
    return {
        "gold": gold,
        "proxy": proxy,
        "pessimistic": at_distances(pessimistic(said, weight=PESSIMISM), [GOLD])[0],
        "best_of": [best_of(said[0], n) for n in CHOICES],
        "accuracy": accuracy(said[0]),
    }


def measured_all(workers: int) -> dict[int, dict[str, Array]]:
    """By number of comparisons, all that was measured, seed by seed."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=end_with_parent) as pool:
        cells = {pairs: [pool.submit(measured, pairs, seed) for seed in range(SEEDS)] for pairs in reversed(PAIRS)}
        found = {pairs: [cell.result() for cell in cells[pairs]] for pairs in PAIRS}
    return {pairs: {name: np.array([one[name] for one in some]) for name in some[0]} for pairs, some in found.items()}


def summary(curves: Array) -> tuple[float, float, int, float]:
    """Of the seeds' curves [S, distances]: the mean of their highest gold rewards, and of those at the greatest
    distance; how many fell by more than `FALLEN` from one to the other; the lowest at the greatest distance."""
    highest, last = curves.max(1), curves[:, -1]
    return float(highest.mean()), float(last.mean()), int((highest - last > FALLEN).sum()), float(last.min())


def lines(found: dict[int, dict[str, Any]], name: str) -> list[Line]:
    """A curve per number of comparisons with the range over the seeds."""
    found_lines = []
    for colour, (pairs, curves) in enumerate(found.items()):
        values = curves[name]
        low, high = np.min(values, 0).tolist(), np.max(values, 0).tolist()
        mean = np.mean(values, 0).tolist()
        found_lines.append(Line(f"{pairs:,} comparisons", DISTANCES.tolist(), mean, low, high, colour=colour))
    return found_lines


def drawn(found: dict[int, dict[str, Any]], best: Array) -> list[Panel]:
    """The panels of the picture."""
    upper = Line("the gold reward itself, maximised", DISTANCES.tolist(), best.tolist(), colour=5, dashed=True)
    across = "square root of KL(policy, cook), nats"
    chosen = [float(np.sqrt(best_of_kl(n))) for n in CHOICES]
    control = [
        Line(f"{pairs:,} comparisons", chosen, curves["best_of"].mean(0).tolist(), colour=colour, marked=True)
        for colour, (pairs, curves) in enumerate(found.items())
    ]
    span = (-0.1, 3.2)
    return [
        Panel("One reward model, maximised", across, "gold reward", [*lines(found, "gold"), upper], y_range=span),
        Panel(f"{MEMBERS} reward models, less their deviation", across, "gold reward",
              [*lines(found, "pessimistic"), upper], y_range=span),
        Panel("Best of n by one reward model", across, "gold reward", [*control, replace(upper)], y_range=span),
        Panel("What the one reward model says of it", across, "proxy, its own units", lines(found, "proxy")),
    ]  # fmt: skip


def main() -> None:
    """Run all, report and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    workers = parser.parse_args().workers
    best = at_distances(GOLD, [GOLD])[0]
    found = measured_all(workers)
    far = f"gold at {DISTANCES[-1]:g}"
    header = ["comparisons", "pairs ranked right", "reward model", "highest gold", far, "fell", "worst"]
    rows = []
    for pairs, curves in found.items():
        for label, name in (("one", "gold"), (f"{MEMBERS}, pessimistic", "pessimistic")):
            highest, end, fell, worst = summary(curves[name])
            right = f"{curves['accuracy'].mean():.1%}"
            rows.append(
                [f"{pairs:,}", right, label, f"{highest:.2f}", f"{end:.2f}", f"{fell} of {SEEDS}", f"{worst:.2f}"]
            )
    print(f"gold reward of the cook {COOK @ GOLD:.2f}, of the best dishes 3; distances are square roots of the KL")
    print(table(header, rows))
    numbers = {
        "distances": DISTANCES.tolist(),
        "choices": CHOICES,
        "gold_itself": best.tolist(),
        **{str(pairs): {name: values.tolist() for name, values in curves.items()} for pairs, curves in found.items()},
    }
    title = "What a reward model is worth, the harder it is maximised"
    publish("over_optimisation", title, numbers, drawn(found, best), columns=2)


if __name__ == "__main__":
    main()
