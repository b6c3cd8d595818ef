"""Clipping is no trust region; stopping an update on its measured KL is what holds it, through the real learner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from laurel.algorithms import grpo
from laurel.learner import Learner, OptimiserSettings, UpdateReport
from laurel.policy import Policy, pack, tiny
from laurel.rollout import Job, Limits, LocalSampler
from laurel.tasks import Task
from laurel.tree import Outcome, Sampling, Score, Tree

EPOCHS = 150


def policy() -> Policy:
    return tiny(alphabet="abcd", hidden_size=16, layers=1, heads=2, context_length=8)


def drawn(made: Policy) -> list[Tree]:
    """Four groups of eight answers, worth the fraction of their tokens that are "a"."""
    jobs = [Job(f"1.{index}", Task(f"{index}", letter, None), 8) for index, letter in enumerate("abcd")]
    trees = LocalSampler(made, Sampling(), Limits(max_new_tokens=4), seed=0).collect(jobs, policy_version=0)
    return [
        tree.with_outcomes(
            {
                leaf: replace(tree.segments[leaf].outcome, score=Score(tree.segments[leaf].text.count("a") / 4))  # type: ignore[type-var]
                for leaf in tree.leaves
            }
        )
        for tree in trees
    ]


def log_probs(made: Policy, trees: list[Tree]) -> np.ndarray:
    packed = pack(trees, [tree.flat.policy for tree in trees])
    return made.token_scores(packed).log_probs.detach().double().numpy()


def update(maximum_kl: float | None, *, epochs: int = EPOCHS) -> tuple[UpdateReport, float, Learner]:
    """One long update; its report, and the KL(old, now) that it ended with, in nats per token."""
    made = policy()
    trees = drawn(made)
    algorithm = grpo(epochs=epochs, maximum_kl=maximum_kl)
    learner = Learner(made, algorithm, OptimiserSettings(learning_rate=2e-3, maximum_gradient_norm=None))
    before = log_probs(made, trees)
    report = learner.update(trees, algorithm.credit(trees), 1)  # type: ignore[call-arg]
    moved = log_probs(made, trees) - before
    return report, float((np.expm1(moved) - moved).mean()), learner


def test_many_epochs_leave_the_clip_range_and_the_stop_holds_them() -> None:
    free, far, learner = update(None)
    assert far > 0.05 and learner.version == EPOCHS
    assert "stopped_steps" not in free.metrics
    for limit in (0.005, 0.02):
        report, kl, learner = update(limit)
        assert limit < kl < 2 * limit  # it was measured above the limit, one step after it was below
        assert report.metrics["greatest_kl_old"].mean == pytest.approx(kl, rel=1e-3)
        assert report.metrics["stopped_steps"].sum == EPOCHS - learner.version > 0
        assert report.metrics["stopped_steps"].count == EPOCHS


def test_what_is_left_out_is_the_rest_of_this_update_only() -> None:
    made = policy()
    trees = drawn(made)
    algorithm = grpo(epochs=3, minibatches=2, maximum_kl=1e-6)
    learner = Learner(made, algorithm, OptimiserSettings(learning_rate=1e-3))
    credits = algorithm.credit(trees)  # type: ignore[call-arg]
    first = learner.update(trees, credits, 1)
    assert learner.version == 1  # the first step stands at KL 0; the second is measured above the limit
    assert first.metrics["stopped_steps"].sum == 5
    fresh = [_drawn_by(tree, 1) for tree in drawn(made)]
    learner.update(fresh, algorithm.credit(fresh), 2)  # type: ignore[call-arg]
    assert learner.version == 2


def test_the_schedule_ends_with_the_run_however_many_steps_were_left_out() -> None:
    """Four updates of six steps, of which the stop leaves one each: rates 1, 3/4, 1/2 and 1/4 of the first."""
    made = policy()
    algorithm = grpo(epochs=3, minibatches=2, maximum_kl=1e-9)
    settings = OptimiserSettings(learning_rate=1e-2, schedule="linear")
    learner = Learner(made, algorithm, settings, total_steps=4)
    rates = []
    for update in range(1, 5):
        trees = [_drawn_by(tree, learner.version) for tree in drawn(made)]
        report = learner.update(trees, learner.credit(trees), update)
        assert report.metrics["stopped_steps"].sum == 5
        rates.append(report.metrics["learning_rate"].mean)
        if update == 2:  # what was left out is resumed with the rest
            tensors, state = learner.state()
            assert state == {"optimiser_steps": 2, "left_out_steps": 10}
            learner = Learner(made, algorithm, settings, total_steps=4)
            learner.load_state(tensors, state)
    assert rates == pytest.approx([1e-2, 0.75e-2, 0.5e-2, 0.25e-2])


def test_updates_without_gradient_pass_in_the_schedule_too() -> None:
    made = policy()
    algorithm = grpo()
    learner = Learner(made, algorithm, OptimiserSettings(learning_rate=1e-2, schedule="linear"), total_steps=4)
    same = [tree.with_outcomes({leaf: _scored(tree, leaf) for leaf in tree.leaves}) for tree in drawn(made)]
    assert learner.update(same, learner.credit(same), 1).skipped is not None
    trees = drawn(made)
    report = learner.update(trees, learner.credit(trees), 2)
    assert report.metrics["learning_rate"].mean == pytest.approx(0.75e-2)


def _scored(tree: Tree, leaf: int) -> Outcome:
    outcome = tree.segments[leaf].outcome
    assert outcome is not None
    return replace(outcome, score=Score(0.5))


def _drawn_by(tree: Tree, version: int) -> Tree:
    """The same tree as if the weights of this version had drawn it."""
    return replace(
        tree,
        segments=tuple(replace(s, policy_version=None if s.policy_version is None else version) for s in tree.segments),
    )


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    free, held = update(None, epochs=10)[2], update(1e3, epochs=10)[2]
    assert held.version == free.version
    ours, theirs = held.policy.tensors(), free.policy.tensors()
    assert all((ours[name] == theirs[name]).all() for name in ours)
