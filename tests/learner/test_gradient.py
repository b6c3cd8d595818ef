"""The gradient of an update: no split, order, layout or failed sibling changes it, and one is written out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_steps import distance, policy, take
from learner_trees import batch, dialogue, fan, segment

from laurel.algorithms import KL, Credit, clone, dapo, dr_grpo, grpo, reinforce, rloo
from laurel.learner import Learner, OptimiserSettings
from laurel.objectives import ConstantLength
from laurel.policy import tiny
from laurel.tree import Source, Tree

RESOLUTION = {torch.float32: 1e-6, torch.float64: 1e-12}


ALGORITHMS = {
    "reinforce": reinforce(baseline=0.2),
    "rloo": rloo(kl=KL(0.1, place="loss", estimator="exact"), entropy=0.01),
    "grpo": grpo(kl=0.05),
    "dr_grpo": dr_grpo(length=8),
    "dapo": dapo(),
    "clone": clone(),
}


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_split_changes_the_gradient(name: str, dtype: torch.dtype) -> None:
    """Whole step at once, tree by tree, trees cut between their leaves, every path alone."""
    trees, algorithm = batch(), ALGORITHMS[name]
    whole = take(trees, algorithm, dtype=dtype)
    assert whole.report.metrics["microbatches"].mean == 1
    assert float(whole.gradient.norm()) > 0
    for budget in (60, 21, 1):
        cut = take(trees, algorithm, dtype=dtype, budget=budget)
        assert cut.report.metrics["microbatches"].mean > 1
        assert distance(cut.gradient, whole.gradient) < RESOLUTION[dtype]
        assert cut.loss == pytest.approx(whole.loss, rel=10 * RESOLUTION[dtype], abs=RESOLUTION[dtype])


def test_by_default_trees_are_joined_up_to_the_fast_size_and_cut_above_twice_that() -> None:
    # Prompt 40 + 12 answers of 200: 2440 tokens stay whole; with 24 answers 4840 tokens become pieces of at most 4096,
    # of which the second has room for the small tree.
    def long_fan(id: str, answers: int) -> Tree:
        draw = np.random.default_rng(0)
        parts = [segment(draw, Source.PROMPT, -1, 40)]
        for index in range(answers):
            parts.append(segment(draw, Source.POLICY, 0, 200, score=float(index), leaf=True, name=f"{id}.{index}"))
        return Tree(id, id, tuple(parts))

    algorithm = rloo()
    trees = [fan("small", [1.0, 0.0], seed=0), long_fan("middle", 12), long_fan("large", 24)]
    made = tiny(alphabet="abcdefghij", hidden_size=8, layers=1, heads=1, context_length=256)
    report = Learner(made, algorithm, OptimiserSettings()).update(trees, algorithm.credit(trees), step=1)
    assert report.metrics["microbatches"].mean == 3
    assert report.metrics["computed_tokens"].mean == sum(len(tree.flat) for tree in trees) + 40


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_order_of_trees_does_not_matter(name: str) -> None:
    trees, algorithm = batch(), ALGORITHMS[name]
    forwards, backwards = take(trees, algorithm, budget=40), take(trees[::-1], algorithm, budget=40)
    assert distance(backwards.gradient, forwards.gradient) < 1e-12


def test_a_fan_equals_its_rollouts_as_separate_trees_with_the_same_weights() -> None:
    """Sharing a prefix is a matter of speed alone."""
    algorithm = replace(reinforce(), reduction=ConstantLength(1.0))
    tree = fan("fan", [1.0, 0.0, 0.5, -0.5], seed=5)
    alone = [
        Tree(f"alone{leaf}", "alone", (tree.segments[0], replace(tree.segments[leaf], parent=0)))
        for leaf in tree.leaves
    ]
    together, separate = take([tree], algorithm), take(alone, algorithm)
    assert distance(together.gradient, separate.gradient) < 1e-12
    assert together.report.metrics["computed_tokens"].mean < separate.report.metrics["computed_tokens"].mean


def test_a_segment_cut_in_two_changes_nothing() -> None:
    trees = batch()
    halves = [trees[0].split(2, 1) if len(trees[0].segments[2]) > 1 else trees[0], trees[1].split(1, 3), *trees[2:]]
    assert distance(take(halves, ALGORITHMS["rloo"]).gradient, take(trees, ALGORITHMS["rloo"]).gradient) < 1e-12


@pytest.mark.parametrize("name", ["rloo", "grpo", "dr_grpo", "dapo"])
def test_failed_siblings_count_as_never_sampled(name: str) -> None:
    whole = fan("fan", [1.0, None, 0.0, None, 0.5], seed=6)
    kept = Tree(whole.id, whole.task_id, tuple(whole.segments[index] for index in (0, 1, 3, 5)))
    others = batch()[2:]
    with_failures, without = take([whole, *others], ALGORITHMS[name]), take([kept, *others], ALGORITHMS[name])
    assert distance(with_failures.gradient, without.gradient) < 1e-12
    assert with_failures.report.metrics["computed_tokens"] == without.report.metrics["computed_tokens"]


def test_garbage_on_tokens_without_loss_changes_nothing() -> None:
    """Advantages of prompt, environment and failed tokens are never read, not even when they are NaN."""
    trees = [dialogue("talk", seed=7), fan("fan", [1.0, None, 0.0], seed=8)]
    algorithm = ALGORITHMS["grpo"]
    clean = algorithm.credit(trees)
    poisoned = [Credit(np.where(credit.mask, credit.advantages, np.nan), credit.mask) for credit in clean]
    expected, found = take(trees, algorithm, credits=clean), take(trees, algorithm, credits=poisoned)
    assert torch.equal(expected.gradient, found.gradient)
    assert expected.report.metrics == found.report.metrics


def test_the_gradient_of_reinforce_by_hand() -> None:
    """- R / N * sum_t grad log pi(token_t), from the logits of each rollout as a row of its own."""
    tree, algorithm = fan("fan", [2.0, -1.0], seed=9), reinforce()
    made = policy()
    made.model.set_attn_implementation("sdpa")
    total = torch.zeros((), dtype=torch.float64)
    for rollout in tree.rollouts:
        prompt, answer = rollout.segments
        row = torch.tensor(np.concatenate([prompt.tokens, answer.tokens]))[None]
        log_probs = made.model(input_ids=row).logits[0].log_softmax(-1)
        places = torch.arange(len(prompt), row.shape[1])
        total = total - rollout.reward / 2 * log_probs[places - 1, row[0, places]].sum()
    total.backward()
    by_hand = torch.cat([parameter.grad.flatten() for parameter in made.trainable_parameters().values()])
    taken = take([tree], algorithm)
    assert distance(taken.gradient, by_hand) < 1e-12
    assert taken.loss == pytest.approx(total.item(), rel=1e-12)
