"""Why the clip is no trust region, and TRPO is one: how far one batch of experience moves the policy.

    python -m studies.trust_region

Part one, exactly: an enumerable language model, 20 data sets of 64 rollouts, 2000 full-batch epochs on each. What is
plotted is the KL between whole rollouts before and after, summed over all of them. The clip removes a token's incentive
once its ratio left [0.8, 1.2]; it does not bring the ratio back, and what moves other tokens, or an optimiser that is
still rolling, moves it on. How far depends on the learning rate. Stopping on the measured KL holds it; TRPO's
step is as long as the measured KL allows, whatever the data.

Part two, on a transformer through the real learner: the same, with the KL summed over the whole vocabulary.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

import laurel
from laurel.algorithms import Algorithm, Step, TrustRegion
from laurel.credit import LeaveOneOut
from laurel.learner import Learner
from laurel.learner.trust_region import search
from laurel.objectives import clipped
from laurel.picture import Line, Panel
from laurel.policy import Policy, pack
from laurel.policy.divergence import divergence
from laurel.rollout import Job, LocalSampler
from laurel.tasks import Task
from laurel.theory import example_logits, example_world, expected_return, group_tree, kl_divergence, path_log_probs
from laurel.tree import Score, Tree
from studies.intervals import quartiles
from studies.publishing import publish, table

CLIP = 0.2
DATA_SETS, ROLLOUTS, EPOCHS = 20, 64, 2000
RATES = (0.005, 0.02, 0.1)
STOP_AT = 0.02
DELTA = 0.01
MEASURED = sorted({round(x) for x in np.geomspace(1, EPOCHS, 40)})
TRANSFORMER_EPOCHS = (1, 5, 20, 100, 500, 2000)
BATCHES = 3


@dataclass(frozen=True)
class DataSets:
    """D data sets of rollouts drawn from one table; those of two tokens and of one are padded to T tokens together.

    Attributes:
        old: [S, V] the table that drew them.
        states, tokens: [D, T]. advantages, weights: [D, T]; a weight is 1 / (tokens of the data set), 0 for padding.
    """

    old: torch.Tensor
    states: torch.Tensor
    tokens: torch.Tensor
    advantages: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def drawn(cls, count: int) -> DataSets:
        world = example_world()
        old = example_logits(world)
        chances = path_log_probs(world, old).exp()
        longest = 2 * ROLLOUTS
        states, tokens = torch.zeros(count, longest, dtype=torch.long), torch.zeros(count, longest, dtype=torch.long)
        advantages, weights = torch.zeros(count, longest).double(), torch.zeros(count, longest).double()
        for index in range(count):
            draw = torch.Generator().manual_seed(index)
            paths = [world.paths[i] for i in torch.multinomial(chances, ROLLOUTS, replacement=True, generator=draw)]
            (credit,) = LeaveOneOut()([group_tree(world, tuple(paths))])
            size = int(credit.mask.sum())
            states[index, :size] = torch.tensor([state for path in paths for state in path.states])
            tokens[index, :size] = torch.tensor([token for path in paths for token in path.tokens])
            advantages[index, :size] = torch.tensor(credit.advantages[credit.mask])
            weights[index, :size] = 1 / size
        return cls(old, states, tokens, advantages, weights)

    def log_probs(self, tables: torch.Tensor) -> torch.Tensor:
        """[D, T] of the drawn tokens, under one table each."""
        which = torch.arange(len(self.states))[:, None]
        return torch.log_softmax(tables, -1)[which, self.states, self.tokens]

    @property
    def start(self) -> torch.Tensor:
        """[D, S, V]."""
        return self.old.expand(len(self.states), -1, -1).clone()

    def state_kl(self, index: int, now: torch.Tensor) -> torch.Tensor:
        """KL(old, now) averaged over the states of one data set: what a trust region bounds."""
        before, after = torch.log_softmax(self.old, -1), torch.log_softmax(now, -1)
        return (before.exp() * (before - after)).sum(-1)[self.states[index]] @ self.weights[index]

    def loss(self, index: int, now: torch.Tensor) -> torch.Tensor:
        """Minus the surrogate of one data set."""
        ratio = (torch.log_softmax(now, -1) - torch.log_softmax(self.old, -1))[self.states[index], self.tokens[index]]
        return -(ratio.exp() * self.advantages[index]) @ self.weights[index]


@dataclass
class Course:
    """What was measured of every data set, [D] each, after each of the `MEASURED` epochs."""

    kl: list[list[float]]
    least_ratio: list[list[float]]
    greatest_ratio: list[list[float]]

    def at_end(self) -> dict[str, float]:
        return {
            "sequence_kl": float(np.median(self.kl[-1])),
            "least_ratio": float(np.median(self.least_ratio[-1])),
            "greatest_ratio": float(np.median(self.greatest_ratio[-1])),
            "greatest_sequence_kl": float(np.max(self.kl[-1])),
        }


def clip_course(data: DataSets, rate: float, *, stop_at: float | None = None, epochs: int = EPOCHS) -> Course:
    """Full-batch epochs of the clipped objective, with Adam, on every data set by itself.

    Args:
        stop_at: an update ends once the mean of rho - 1 - log rho over its tokens exceeds this.
    """
    before = data.log_probs(data.start)
    tables = data.start.requires_grad_()
    optimiser = torch.optim.Adam([tables], lr=rate)
    course = Course([], [], [])
    over = torch.zeros(len(tables), dtype=torch.bool)
    for epoch in range(1, epochs + 1):
        now = data.log_probs(tables)
        moved = (now - before).detach()
        if stop_at is not None:
            over |= ((torch.expm1(moved) - moved) * data.weights).sum(1) > stop_at
        loss = clipped(now, before, data.advantages, low=CLIP, high=CLIP) * data.weights
        held = tables.detach()[over].clone()
        optimiser.zero_grad()
        loss.sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            tables[over] = held
        if epoch in MEASURED:
            _measure(data, tables.detach(), course)
    return course


def _measure(data: DataSets, tables: torch.Tensor, course: Course) -> None:
    world = example_world()
    ratios = (data.log_probs(tables) - data.log_probs(data.start)).exp()
    real = data.weights > 0
    course.kl.append([float(kl_divergence(world, data.old, table)) for table in tables])
    course.least_ratio.append(torch.where(real, ratios, torch.inf).min(1).values.tolist())
    course.greatest_ratio.append(torch.where(real, ratios, -torch.inf).max(1).values.tolist())


def trust_region_steps(data: DataSets) -> dict[str, Any]:
    """One step of TRPO on every data set; the Fisher matrix is the Hessian of the KL at the start."""
    world, size = example_world(), data.old.numel()
    sequence, states, gains, refused = [], [], [], 0
    course = Course([], [], [])
    tables = data.start
    for index in range(len(tables)):
        hessian = torch.autograd.functional.hessian(lambda now, index=index: data.state_kl(index, now), data.old)  # type: ignore[no-untyped-call,misc]
        matrix = hessian.reshape(size, size)
        table = data.old.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(data.loss(index, table), table)

        def tried(step: torch.Tensor, index: int = index) -> tuple[float, float]:
            tables[index] = data.old + step.view(data.old.shape)
            return float(data.loss(index, tables[index])), float(data.state_kl(index, tables[index]))

        region = TrustRegion(DELTA)
        start = float(data.loss(index, data.old))
        outcome = search(gradient.flatten(), lambda v, matrix=matrix: matrix @ v, tried, start, region)  # type: ignore[misc]
        if outcome.refused is not None:
            tables[index] = data.old
        refused += outcome.refused is not None
        states.append(outcome.kl)
        sequence.append(float(kl_divergence(world, data.old, tables[index])))
        gains.append(float(expected_return(world, tables[index]) - expected_return(world, data.old)))
    _measure(data, tables, course)
    return {
        **course.at_end(),
        "greatest_state_kl": max(states),
        "refused": refused,
        "data_sets_whose_expected_return_rose": sum(gain > 0 for gain in gains),
    }


# Part two: a transformer


def transformer() -> Policy:
    return laurel.policy.tiny(alphabet="abcd", hidden_size=16, layers=1, heads=2, context_length=8)


def batch(policy: Policy, seed: int) -> list[Tree]:
    """Four groups of eight answers, worth the fraction of their tokens that are "a"."""
    jobs = [Job(f"1.{index}", Task(f"{index}", letter, None), 8) for index, letter in enumerate("abcd")]
    sampler = LocalSampler(policy, laurel.Sampling(), laurel.Limits(max_new_tokens=4), seed=seed)
    graded = []
    for tree in sampler.collect(jobs, policy_version=0):
        scores = {leaf: Score(tree.segments[leaf].text.count("a") / 4) for leaf in tree.leaves}
        ends = {leaf: tree.segments[leaf].outcome for leaf in tree.leaves}
        graded.append(tree.with_outcomes({leaf: replace(end, score=scores[leaf]) for leaf, end in ends.items() if end}))
    return graded


def moved_by(algorithm: Algorithm, rate: float | None, seed: int) -> dict[str, float]:
    """One update of a fresh transformer: the exact KL per state, and the ratios of the drawn tokens."""
    policy = transformer()
    trees = batch(policy, seed)
    packed = pack(trees, [tree.flat.policy for tree in trees])
    old = policy.snapshot("old")
    settings = None if rate is None else laurel.OptimiserSettings(learning_rate=rate, maximum_gradient_norm=None)
    learner = Learner(policy, algorithm, settings)
    learner.update(trees, learner.credit(trees), 1)
    with torch.no_grad():
        was = old.compared(packed)
        now = policy.snapshot("now").compared(packed)
        rows = divergence(was.hidden, was.head, now, packed.rows)
        kl = float(rows[packed.row_of].double().mean())
        scores = policy.token_scores(packed, entropy=False).log_probs
        ratio = (scores - old.token_scores(packed, entropy=False).log_probs).exp()
    return {"state_kl": kl, "least_ratio": float(ratio.min()), "greatest_ratio": float(ratio.max())}


def transformer_part(epochs: tuple[int, ...], batches: int) -> dict[str, Any]:
    found: dict[str, Any] = {"epochs": list(epochs), "clip": [], "stopped": [], "trpo": []}
    for count in epochs:
        step = Step(count, 1)
        found["clip"].append([moved_by(replace(laurel.grpo(), step=step), 2e-3, seed) for seed in range(batches)])
        if count > 1:
            step = Step(count, 1, STOP_AT)
            found["stopped"].append(
                [moved_by(replace(laurel.grpo(), step=step), 2e-3, seed) for seed in range(batches)]
            )
        print(f"  transformer, {count} epochs: KL {np.median([one['state_kl'] for one in found['clip'][-1]]):.4f}")
    found["trpo"] = [moved_by(laurel.trpo(maximum_kl=DELTA), None, seed) for seed in range(batches)]
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    data = DataSets.drawn(DATA_SETS)
    courses = {rate: clip_course(data, rate) for rate in RATES}
    stopped = clip_course(data, 0.02, stop_at=STOP_AT)
    region = trust_region_steps(data)
    neural = transformer_part(TRANSFORMER_EPOCHS, BATCHES)
    rows = [[f"clip {CLIP}, rate {rate}", *_cells(course.at_end())] for rate, course in courses.items()]
    rows.append([f"clip {CLIP}, rate 0.02, stop at KL {STOP_AT}", *_cells(stopped.at_end())])
    rows.append([f"TRPO, delta {DELTA} per state", *_cells(region)])
    print(table(["medians of 20 data sets, 2000 epochs", "sequence KL", "least ratio", "greatest ratio"], rows))
    rose, refused = region["data_sets_whose_expected_return_rose"], region["refused"]
    print(f"TRPO: greatest KL per state {region['greatest_state_kl']:.4f}; {refused} steps refused;")
    print(f"      the exact expected return rose on {rose} of {DATA_SETS} data sets")
    for name, many in (("clip", neural["clip"][-1]), ("stopped", neural["stopped"][-1]), ("TRPO", neural["trpo"])):
        spans = ", ".join(f"{o['state_kl']:.4f} [{o['least_ratio']:.2f}, {o['greatest_ratio']:.2f}]" for o in many)
        print(f"transformer, {name}: KL per state and [least, greatest] ratio of {BATCHES} batches: {spans}")
    numbers = {
        "clip": CLIP, "stop_at": STOP_AT, "delta": DELTA, "data_sets": DATA_SETS, "rollouts": ROLLOUTS,
        "table": {
            "epochs": EPOCHS, **{f"clip, rate {rate}": course.at_end() for rate, course in courses.items()},
            "clip, rate 0.02, stopped": stopped.at_end(), "trpo": region,
        },
        "transformer": neural,
    }  # fmt: skip
    panels = [_table_panel(courses, stopped, region), _ratio_panel(courses[0.02]), _transformer_panel(neural)]
    publish("trust_region", "How far one batch moves the policy", numbers, panels)


def _cells(found: dict[str, Any]) -> list[str]:
    return [f"{found[name]:.3f}" for name in ("sequence_kl", "least_ratio", "greatest_ratio")]


def _table_panel(courses: dict[float, Course], stopped: Course, region: dict[str, Any]) -> Panel:
    lines = []
    for colour, (rate, course) in enumerate(courses.items()):
        low, middle, high = quartiles(np.array(course.kl).T)
        lines.append(Line(f"clip 0.2, Adam {rate:g}", MEASURED, middle, low, high, colour=colour))
    _, middle, _ = quartiles(np.array(stopped.kl).T)
    lines.append(Line(f"the same at 0.02, stopped at a measured KL of {STOP_AT} per token", MEASURED, middle, colour=4))
    kl = region["sequence_kl"]
    label = f"TRPO, one step, delta {DELTA} per token"
    lines.append(Line(label, [1, EPOCHS], [kl, kl], colour=3, dashed=True))
    return Panel("Table, 20 data sets: exact KL of whole rollouts", "epochs on one batch", "KL(old, now), nats", lines,
                 log_x=True, log_y=True, y_range=(1e-4, 1))  # fmt: skip


def _ratio_panel(course: Course) -> Panel:
    lines = []
    for colour, (label, values) in enumerate((("greatest", course.greatest_ratio), ("least", course.least_ratio))):
        low, middle, high = quartiles(np.array(values).T)
        lines.append(Line(f"{label} ratio of the batch", MEASURED, middle, low, high, colour=colour))
    for bound, label in ((1 + CLIP, "the clip range"), (1 - CLIP, "")):
        lines.append(Line(label, [1, EPOCHS], [bound, bound], colour=5, dashed=True))
    return Panel("Table, Adam 0.02: ratios leave the clip range", "epochs on one batch", "ratio", lines, log_x=True)


def _transformer_panel(found: dict[str, Any]) -> Panel:
    epochs = found["epochs"]

    def median(many: list[dict[str, float]]) -> float:
        return float(np.median([one["state_kl"] for one in many]))

    kl = median(found["trpo"])
    lines = [
        Line("clip 0.2", epochs, [median(many) for many in found["clip"]], colour=1, marked=True),
        Line(f"stopped at {STOP_AT}", epochs[1:], [median(many) for many in found["stopped"]], colour=4, marked=True),
        Line(f"TRPO, delta {DELTA}", [epochs[0], epochs[-1]], [kl, kl], colour=3, dashed=True),
    ]
    return Panel("Transformer: exact KL per state", "epochs on one batch", "KL(old, now), nats per token", lines,
                 log_x=True, log_y=True)  # fmt: skip


if __name__ == "__main__":
    main()
