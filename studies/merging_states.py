"""Temporal difference against Monte Carlo: it pays where states merge, and changes nothing where they do not.

    python -m studies.merging_states

An answer of eight binary tokens earns 1 if most of them are 1. Values are learned from n answers, once for states that
are whole prefixes, as a language model's are (no two answers ever meet again), and once for states that say how many
tokens and how many ones there were (many answers meet in each). On prefixes, the fixed point of batch TD(0) and the
Monte-Carlo means are the same numbers; where states merge, TD(0) lets every answer that passed through a state speak
for all that come to it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Hashable

import numpy as np
import torch

from laurel.picture import Line, Panel
from laurel.theory import World, batch_monte_carlo, batch_temporal_difference, history_values, path_episode, single_turn
from laurel.theory.world import History
from studies.intervals import quartiles
from studies.publishing import publish, table

HORIZON = 8
ANSWERS = (4, 8, 16, 32, 64, 128, 256)
REPETITIONS = 200
METHODS = {"Monte Carlo": batch_monte_carlo, "temporal difference": batch_temporal_difference}
STATES: dict[str, Callable[[History], Hashable]] = {
    "prefixes": lambda history: history,
    "merged": lambda history: (len(history), sum(history)),
}


def world_of(kind: str) -> World:
    base = single_turn(vocabulary=2, horizon=HORIZON, score=lambda answer: float(2 * sum(answer) > HORIZON))
    return World(2, base.respond, state=STATES[kind])


def errors(kind: str, answers: int, repetitions: int) -> dict[str, list[float]]:
    """Root mean square error of the learned values over the states that were visited, one number per repetition.

    Visits weigh: a state counts as often as an answer passed through it.
    """
    world = world_of(kind)
    exact: dict[Hashable, float] = {}
    uniform = torch.zeros(len(world.states), 2, dtype=torch.float64)
    for history, value in history_values(world, uniform).items():
        exact[world.state(history)] = value
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for repetition in range(repetitions):
        drawn = np.random.default_rng([answers, repetition]).integers(0, len(world.paths), answers)
        episodes = [path_episode(world, world.paths[index]) for index in drawn]
        for name, method in METHODS.items():
            values = method(episodes)
            wrong = [values[state] - exact[state] for episode in episodes for state, _ in episode]
            found[name].append(float(np.sqrt(np.mean(np.square(wrong)))))
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    found = {kind: [errors(kind, answers, REPETITIONS) for answers in ANSWERS] for kind in STATES}
    rows, numbers = [], {}
    for kind, course in found.items():
        for name in METHODS:
            medians = [float(np.median(one[name])) for one in course]
            rows.append([kind, name, *(f"{median:.3f}" for median in medians)])
            numbers[f"{kind}, {name}"] = medians
    print("median root mean square error of the values, by answers in the batch")
    print(table(["states", "method", *map(str, ANSWERS)], rows))
    difference = max(
        abs(one - other)
        for course in found["prefixes"]
        for one, other in zip(course["Monte Carlo"], course["temporal difference"], strict=True)
    )
    print(f"on prefixes the two differ by at most {difference:.1e}")
    panels = []
    for kind, course in found.items():
        lines = []
        for colour, name in enumerate(METHODS):
            low, middle, high = quartiles(np.array([one[name] for one in course]).T)
            dashed = kind == "prefixes" and colour == 1  # or it would hide the other, which is the same
            lines.append(Line(name, ANSWERS, middle, low, high, colour=colour, dashed=dashed, marked=True))
        title = "States are prefixes: the same numbers" if kind == "prefixes" else "States merge"
        panels.append(Panel(title, "answers in the batch", "error of the values (RMS)", lines, log_x=True,
                            log_y=True, y_range=(0.01, 1)))  # fmt: skip
    everything = {"answers": ANSWERS, "horizon": HORIZON, "repetitions": REPETITIONS, **numbers,
                  "greatest_difference_on_prefixes": difference}  # fmt: skip
    publish("merging_states", "Temporal difference against Monte Carlo", everything, panels)


if __name__ == "__main__":
    main()
