"""When DPO is RLHF, and when it is not: coverage, few labels, preferences that no reward explains, certain preferences.

    python -m studies.dpo_or_rlhf

27 answers of three letters, a reward that adds a value for each letter at each place, a reference policy; everything is
listed, so that optima are exact. RLHF fits a reward model to pairs and takes the best policy for it under the KL to the
reference. DPO fits the policy to the same pairs. Both have a class that they fit in:

    answers     a number for every answer, with nothing in common
    tokens      a number for every token after every prefix: what a language model is, if it could learn anything
    features    a number for each letter at each place: what is true here

A value of 0 is the reference's, 1 that of the best policy, both under the true reward less the KL.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from laurel.objectives import dpo_loss, ipo_loss
from laurel.picture import Line, Panel
from laurel.theory import (
    bradley_terry,
    fitted_rewards,
    preference_optimum,
    regularised_value,
    thurstone,
    tilted,
    total_variation,
)
from laurel.tree import FloatArray
from studies.intervals import quartiles
from studies.publishing import publish, table

LETTERS, LENGTH, BETA, SEEDS = 3, 3, 0.5, 20
COMPARED = (4, 7, 10, 14, 18, 22, 27)
LABELS = (10, 30, 100, 300, 1000, 3000)
NOISES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
DOUBTS = (0.3, 0.1, 0.03, 1e-2, 1e-3, 1e-4, 1e-5)
RIDGE = 1e-3
"""Of the squared numbers that are fitted, per label or pair: optima stay at a finite distance, and those that the
pairs leave open are the smallest."""
WORDS = list(itertools.product(range(LETTERS), repeat=LENGTH))
Class = Callable[[torch.Tensor], torch.Tensor]
"""The numbers that are fitted, to one number for each answer."""


def features() -> torch.Tensor:
    """[27, 9]: which letter stands at which place."""
    return torch.eye(LETTERS, dtype=torch.float64)[torch.tensor(WORDS)].reshape(len(WORDS), -1)


def by_tokens(reference: FloatArray) -> tuple[int, Class]:
    """How many numbers the class `tokens` has, and the log-ratios to the reference of the policy that they make.

    The reference factorises over prefixes; to its logits after each prefix a number is added for every next letter.
    """
    prefixes = [word[:n] for n in range(LENGTH) for word in sorted({w[:n] for w in WORDS})]
    prefixes = list(dict.fromkeys(prefixes))
    mass = {p: sum(q for w, q in zip(WORDS, reference, strict=True) if w[: len(p)] == p) for p in prefixes}
    full = dict(zip(WORDS, reference, strict=True))
    start = torch.tensor(
        [[np.log({**mass, **full}[(*p, c)] / mass[p]) for c in range(LETTERS)] for p in prefixes], dtype=torch.float64
    )
    rows = torch.tensor([[prefixes.index(w[:n]) for n in range(LENGTH)] for w in WORDS])
    letters = torch.tensor(WORDS)

    def log_ratios(numbers: torch.Tensor) -> torch.Tensor:
        moved = torch.log_softmax(start + numbers.reshape(start.shape), -1)
        return (moved - start)[rows, letters].sum(1)

    return start.numel(), log_ratios


def classes(reference: FloatArray) -> dict[str, tuple[int, Class]]:
    """The three, by name: how many numbers, and what they say of every answer."""
    known = features()
    return {
        "answers": (len(WORDS), lambda numbers: numbers),
        "tokens": by_tokens(reference),
        "features": (known.shape[1], lambda numbers: known @ numbers),
    }


def fitted(size: int, says: Class, wins: FloatArray, scale: float) -> FloatArray:
    """What the class says of each answer, [27], where `scale` times that explains the wins best.

    The minimum over its numbers x of sum_ij wins[i, j] dpo_loss(says(x)_i, says(x)_j, beta=scale) / sum wins +
    RIDGE scale^2 |x|^2, from x = 0. With a scale of 1 this is a reward model, with beta DPO.
    """
    numbers = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    won, lost = np.nonzero(wins)
    weights = torch.from_numpy(wins[won, lost] / wins.sum())
    optimiser = torch.optim.LBFGS(
        [numbers], max_iter=400, tolerance_grad=1e-11, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        said = says(numbers)
        value = weights @ dpo_loss(said[won], said[lost], beta=scale) + RIDGE * scale**2 * (numbers**2).sum()
        torch.autograd.backward(value)
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return np.asarray(says(numbers).detach())


def policies(reference: FloatArray, wins: FloatArray) -> dict[str, FloatArray]:
    """What each method makes of the same wins: policies over the answers."""
    made: dict[str, FloatArray] = {}
    for name, (size, says) in classes(reference).items():
        if name != "features":
            log_ratios = fitted(size, says, wins, BETA)
            made[f"DPO, {name}"] = tilted(reference, log_ratios, 1.0)
        if name != "tokens":
            made[f"RLHF, {name}"] = tilted(reference, fitted(size, says, wins, 1.0), BETA)
    return made


def world(seed: int) -> tuple[FloatArray, FloatArray]:
    """(reference, true rewards), drawn at random."""
    draw = np.random.default_rng(seed)
    rewards = np.asarray(features() @ torch.from_numpy(draw.normal(size=LETTERS * LENGTH)))
    return np.asarray(draw.dirichlet(np.full(len(WORDS), 2.0))), rewards


def gain(policy: FloatArray, reference: FloatArray, rewards: FloatArray) -> float:
    """The share of the best policy's gain in E[r] - beta KL that this policy has."""
    best = tilted(reference, rewards, BETA)
    low, high = (regularised_value(p, reference, rewards, BETA) for p in (reference, best))
    kept = np.maximum(policy, 1e-300)
    return (regularised_value(kept, reference, rewards, BETA) - low) / (high - low)


def under_coverage(compared: int, seed: int) -> dict[str, Any]:
    """Unlimited Bradley-Terry labels of all pairs among some of the answers, and none of the others."""
    reference, rewards = world(seed)
    seen = np.random.default_rng([seed, compared]).permutation(len(WORDS))[:compared]
    wins = np.zeros((len(WORDS), len(WORDS)))
    wins[np.ix_(seen, seen)] = bradley_terry(rewards)[np.ix_(seen, seen)]
    np.fill_diagonal(wins, 0)
    made = policies(reference, wins)
    unseen = np.setdiff1d(np.arange(len(WORDS)), seen)
    best = tilted(reference, rewards, BETA)
    return {
        "gain": {name: gain(policy, reference, rewards) for name, policy in made.items()},
        "mass on answers that nobody compared": {
            **{name: float(policy[unseen].sum()) for name, policy in made.items()},
            "best": float(best[unseen].sum()),
        },
        "apart": total_variation(made["DPO, answers"], made["RLHF, answers"]),
    }


def with_labels(count: int, seed: int) -> dict[str, Any]:
    """Labels of so many pairs of answers that the reference drew, each judged once."""
    reference, rewards = world(seed)
    draw = np.random.default_rng([seed, count])
    wins = np.zeros((len(WORDS), len(WORDS)))
    table_ = bradley_terry(rewards)
    for _ in range(count):
        one, other = draw.choice(len(WORDS), size=2, replace=False, p=reference)
        won = draw.random() < table_[one, other]
        wins[(one, other) if won else (other, one)] += 1
    made = policies(reference, wins)
    return {
        "gain": {name: gain(policy, reference, rewards) for name, policy in made.items()},
        "apart": total_variation(made["DPO, answers"], made["RLHF, answers"]),
    }


def without_bradley_terry(noise: float, seed: int) -> dict[str, float]:
    """Every answer is judged with a noise of its own, exp(noise * normal): no reward explains the table.

    At noise 0 all noises are 1, and the table is nearly Bradley-Terry's of 1.7 / sqrt(2) times the rewards.
    """
    reference, rewards = world(seed)
    spread = np.exp(noise * np.random.default_rng([seed, 1]).normal(size=len(WORDS)))
    table_ = np.clip(thurstone(rewards, spread), 1e-6, 1 - 1e-6)
    direct = preference_optimum(reference, table_, partial(dpo_loss, beta=BETA))
    staged = tilted(reference, fitted_rewards(table_), BETA)
    return {"apart": total_variation(direct, staged), "gain": gain(direct, reference, rewards)}


def nearly_certain(doubt: float, seed: int) -> dict[str, float]:
    """The better of two answers wins with probability 1 - doubt, however little better: the mass on the best answer."""
    reference, rewards = world(seed)
    table_ = np.where(rewards[:, None] > rewards[None, :], 1 - doubt, doubt)
    np.fill_diagonal(table_, 0.5)
    top = int(np.argmax(rewards))
    reward_model = fitted_rewards(table_)
    clipped = np.clip(reward_model, -np.ptp(rewards) / 2, np.ptp(rewards) / 2)
    smoothed = partial(dpo_loss, beta=BETA, label_smoothing=0.1)
    found = {
        "DPO": preference_optimum(reference, table_, partial(dpo_loss, beta=BETA)),
        "RLHF": tilted(reference, reward_model, BETA),
        "RLHF, rewards clipped to their true range": tilted(reference, clipped, BETA),
        "DPO, labels smoothed by 0.1": preference_optimum(reference, table_, smoothed),
        "IPO": preference_optimum(reference, table_, partial(ipo_loss, tau=BETA)),
        "best under the true reward": tilted(reference, rewards, BETA),
    }
    masses = {name: float(policy[top]) for name, policy in found.items()}
    return {**masses, "apart": total_variation(found["DPO"], found["RLHF"])}


def curves(found: Mapping[float, list[dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """By name the lower quartile, median and upper quartile over the seeds, along the keys."""
    made = {}
    for name in next(iter(found.values()))[0]:
        values = np.array([[one[name] for one in some] for some in found.values()])
        made[name] = dict(zip(("low", "middle", "high"), quartiles(values.T), strict=True))
    return made


def gains_of(found: Mapping[float, list[dict[str, Any]]]) -> dict[float, list[dict[str, float]]]:
    """The gains of all policies, and how far DPO and RLHF in one class are apart."""
    return {key: [{**one["gain"], "apart": one["apart"]} for one in some] for key, some in found.items()}


def panel(title: str, x: str, y: str, found: Mapping[float, list[dict[str, float]]], **axes: Any) -> Panel:
    """A panel with a line for each name."""
    lines = [
        Line(name, list(found), c["middle"], c["low"], c["high"], colour=colour, dashed=name.startswith("RLHF"))
        for colour, (name, c) in enumerate(curves(found).items())
        if name != "apart"
    ]
    return Panel(title, x, y, lines, **axes)


def reported(title: str, key: str, found: Mapping[float, list[dict[str, float]]]) -> None:
    """Print the medians."""
    print(f"\n{title}")
    rows = [[name, *(f"{value:.3g}" for value in c["middle"])] for name, c in curves(found).items()]
    print(table([key, *(f"{x:g}" for x in found)], rows))


def main() -> None:
    """All four, printed and published."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    covered = {float(count): [under_coverage(count, seed) for seed in range(SEEDS)] for count in COMPARED}
    labelled = {float(count): [with_labels(count, seed) for seed in range(SEEDS)] for count in LABELS}
    noisy = {noise: [without_bradley_terry(noise, seed) for seed in range(SEEDS)] for noise in NOISES}
    certain = {doubt: [nearly_certain(doubt, seed) for seed in range(SEEDS)] for doubt in DOUBTS}
    mass = "mass on answers that nobody compared"
    sections = {
        "unlimited labels of the pairs among some answers: gain": ("compared", gains_of(covered)),
        f"the same: {mass}": ("compared", {key: [one[mass] for one in some] for key, some in covered.items()}),
        "labels of pairs that the reference drew: gain": ("labels", gains_of(labelled)),
        "preferences that no reward explains": ("noise", noisy),
        "preferences that are nearly certain: mass on the best answer": ("doubt", certain),
    }
    for title, (key, found) in sections.items():
        reported(title, key, found)
    gains, masses, few, unlike, sure = (found for _, found in sections.values())
    y = "share of the best gain"
    panels = [
        panel("Pairs among some of 27 answers", "answers compared", y, gains, y_range=(-1, 1.05)),
        panel("The same", "answers compared", mass, masses, y_range=(0, 1)),
        panel("Labels of the reference's pairs", "labels", y, few, log_x=True, y_range=(-1, 1.05)),
        panel("Noises that differ by answer", "noise", f"{y} (DPO = RLHF)", unlike, y_range=(-1, 1.05)),
        panel("Nearly certain preferences", "doubt", "mass on the best answer", sure, log_x=True, y_range=(0, 1)),
    ]
    numbers = {title: {"key": key, "at": list(found), **curves(found)} for title, (key, found) in sections.items()}
    publish("dpo_or_rlhf", "When DPO is RLHF, and when not", numbers, panels, columns=3)


if __name__ == "__main__":
    main()
