"""Monte-Carlo credit against group credit as answers grow longer: how well either knows which token mattered.

    python -m studies.group_or_vine

Two tasks, answers of T binary tokens each. "most": 1 if most tokens are 1; every token matters, and the longer the
answer, the less each: the exact advantage of a token falls like 1 / sqrt(T). "one": 1 if the token in the middle is 1;
no other matters. Group credit (leave-one-out) gives every token of an answer the same number; Monte-Carlo credit
(VinePPO) looks at every place between two tokens with K continuations.

Both are unbiased. What differs is the noise, and what it costs: continuations are sampled and graded like answers. So
the gradient's noise is also given per token sampled: variance over |exact gradient|^2, times the tokens of a batch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from laurel.credit import Credit, LeaveOneOut, MonteCarloValues, continuation_name
from laurel.picture import Line, Panel
from laurel.theory import World, history_values, return_gradient, single_turn, token_histories
from laurel.theory.world import History
from laurel.tree import Ending, Outcome, Score, Segment, Source, Tree
from studies.publishing import publish, table

HORIZONS = (2, 4, 8, 12)
SAMPLES = 8
CONTINUATIONS = (1, 4, 9)
BATCHES = 150
SCORES: dict[str, Callable[[History], float]] = {
    "most": lambda answer: float(2 * sum(answer) > len(answer)),
    "one": lambda answer: float(answer[len(answer) // 2]),
}
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """One horizon: the world, its policy, and what is exactly true of them.

    Attributes:
        chances: [S, V] of the tokens in every state; a state is (tokens so far, ones so far, the middle token).
        values: of every history, complete ones included.
        gradient: [S, V] of the expected return.
    """

    horizon: int
    world: World
    chances: Array
    values: Mapping[History, float]
    gradient: Array

    @classmethod
    def of(cls, score: str, horizon: int) -> Task:
        base, middle = single_turn(vocabulary=2, horizon=horizon, score=SCORES[score]), horizon // 2
        world = World(2, base.respond, state=lambda history: (len(history), sum(history), history[middle : middle + 1]))
        logits = torch.zeros(len(world.states), 2, dtype=torch.float64)
        logits[:, 1] = 0.5 / horizon**0.5  # so that most answers are neither always right nor never
        values = dict(history_values(world, logits))
        values |= {path.tokens: path.rewards[-1] for path in world.paths}
        return cls(horizon, world, torch.softmax(logits, -1).numpy(), values, return_gradient(world, logits))

    def state(self, history: History) -> int:
        return self.world.states[self.world.state(history)]

    def finished(self, history: History, draw: np.random.Generator) -> History:
        """The history drawn on to its end."""
        while len(history) < self.horizon:
            history = (*history, int(draw.random() < self.chances[self.state(history), 1]))
        return history


def sampled(task: Task, continuations: int, draw: np.random.Generator) -> Tree:
    """One prompt with its samples, every token a segment, and K continuations of every place between two tokens."""
    segments = [Segment(Source.PROMPT, np.array(task.world.prompt), -1)]
    for sample in range(SAMPLES):
        answer = task.finished((), draw)
        parent = 0
        for at, token in enumerate(answer, start=1):
            ends = at == task.horizon
            outcome = _outcome(task, answer) if ends else None
            segments.append(
                Segment(Source.POLICY, np.array([token]), parent, outcome=outcome, rollout_id=f"tree.{sample}")
            )
            parent = len(segments) - 1
            for number in range(0 if ends else continuations):
                whole = task.finished(answer[:at], draw)
                name = continuation_name(f"tree.{sample}", at, number)
                rest = np.array(whole[at:])
                segments.append(Segment(Source.POLICY, rest, parent, outcome=_outcome(task, whole), rollout_id=name))
    return Tree.build("tree", "tree", segments)


def _outcome(task: Task, answer: History) -> Outcome:
    return Outcome(Ending.TERMINATED, "stop", Score(task.values[answer]))


@dataclass(frozen=True)
class Seen:
    """What one kind of credit said in one batch: estimated and exact advantages [N], and the gradient [S, V]."""

    estimated: Array
    exact: Array
    gradient: Array
    tokens: int


def look(task: Task, tree: Tree, credit: Credit) -> Seen:
    """Compare a credit with what is exactly true."""
    histories = token_histories(tree)
    exact, gradient = [], np.zeros_like(task.chances)
    judged = np.flatnonzero(credit.mask)
    for place in judged:
        history, token = histories[place], int(tree.flat.tokens[place])
        exact.append(task.values[(*history, token)] - task.values[history])
        state = task.state(history)
        gradient[state] -= credit.advantages[place] * task.chances[state] / SAMPLES
        gradient[state, token] += credit.advantages[place] / SAMPLES
    return Seen(credit.advantages[judged], np.array(exact), gradient, int(tree.flat.policy.sum()))


def measured(task: Task, continuations: int, batches: int) -> dict[str, float]:
    """Correlation of the advantages with the exact ones, their error, and the noise of the gradient.

    Args:
        continuations: K, or 0 for group credit.
    """
    rule = MonteCarloValues() if continuations else LeaveOneOut()
    seen = []
    for number in range(batches):
        tree = sampled(task, continuations, np.random.default_rng([task.horizon, continuations, number]))
        (credit,) = rule([tree])
        seen.append(look(task, tree, credit))
    estimated, exact = (np.concatenate([getattr(one, name) for one in seen]) for name in ("estimated", "exact"))
    gradients = np.stack([one.gradient for one in seen])
    size = float((task.gradient**2).sum())
    noise = float(np.square(gradients - task.gradient).sum((1, 2)).mean()) / size
    tokens = float(np.mean([one.tokens for one in seen]))
    return {
        "correlation": float(np.corrcoef(estimated, exact)[0, 1]),
        "error_variance": float(np.mean(np.square(estimated - exact))),
        "exact_deviation": float(exact.std()),
        "noise_to_signal": noise,
        "tokens": tokens,
        "noise_to_signal_per_thousand_tokens": noise * tokens / 1000,
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    found: dict[str, dict[str, list[dict[str, float]]]] = {score: {} for score in SCORES}
    rows = []
    for score, courses in found.items():
        for continuations in (0, *CONTINUATIONS):
            name = f"Monte Carlo, {continuations} continuations" if continuations else "group (leave-one-out)"
            for horizon in HORIZONS:
                one = measured(Task.of(score, horizon), continuations, BATCHES)
                courses.setdefault(name, []).append(one)
                cells = ("correlation", "error_variance", "noise_to_signal", "noise_to_signal_per_thousand_tokens")
                rows.append([score, name, str(horizon), *(f"{one[cell]:.3f}" for cell in cells)])
    print(table(["task", "credit", "T", "correlation", "error", "noise", "noise at 1000 tokens"], rows))
    panels = []
    for score, courses in found.items():
        task = "most tokens decide" if score == "most" else "one token decides"
        panels.append(_panel(courses, "correlation", f"Correlation with the exact advantage: {task}", log=False))
        title = f"Gradient noise at 1000 sampled tokens: {task}"
        panels.append(_panel(courses, "noise_to_signal_per_thousand_tokens", title, log=True))
    numbers = {"horizons": HORIZONS, "samples": SAMPLES, "batches": BATCHES, **found}
    publish("group_or_vine", "Group credit and Monte-Carlo credit as answers grow", numbers, panels, columns=2)


def _panel(courses: dict[str, list[dict[str, float]]], key: str, title: str, *, log: bool) -> Panel:
    lines = [
        Line(name, HORIZONS, [one[key] for one in course], colour=colour, marked=True)
        for colour, (name, course) in enumerate(courses.items())
    ]
    axis = "variance / |exact gradient|^2" if log else "correlation"
    return Panel(title, "tokens in an answer", axis, lines, log_y=log, y_range=None if log else (0, 1))


if __name__ == "__main__":
    main()
