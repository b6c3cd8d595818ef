"""What may not matter to a gradient, on random trees: order, cuts, shared prefixes, failures, garbage, cut segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_trees import fan

from laurel.algorithms import KL, Algorithm, Credit, dr_grpo, grpo, reinforce, rloo
from laurel.learner import Learner, OptimiserSettings
from laurel.objectives import Budget
from laurel.policy import Policy, Reference, tiny
from laurel.theory import random_tree
from laurel.tree import Ending, Outcome, Segment, Source, Tree

VOCABULARY = 12
RESOLUTION = 1e-6
"""The model's norms compute in float32 whatever its type is."""

ALGORITHMS: dict[str, Algorithm] = {
    "reinforce, penalised": reinforce(
        kl=0.2, constraint=Budget("answer_tokens", at_most=2, rate=0.1, coefficient=0.05)
    ),
    "rloo, exact": rloo(kl=KL(0.1, place="loss", estimator="exact"), entropy=0.02),
    "rloo, exact in both": rloo(kl=KL(0.1, estimator="exact")),
    "grpo": grpo(kl=0.05, epsilon=0.1),
    "dr_grpo": dr_grpo(length=7),
}
algorithms = st.sampled_from(sorted(ALGORITHMS)).map(ALGORITHMS.__getitem__)
few = settings(max_examples=12, deadline=None)


@dataclass(frozen=True)
class Subject:
    """One policy for all examples, its weights of the start, and something to compare it with."""

    policy: Policy
    start: dict[str, torch.Tensor]
    reference: Reference


@cache
def subject() -> Subject:
    def made(seed: int) -> Policy:
        policy = tiny(alphabet="abcdefghij", hidden_size=16, layers=2, heads=2, context_length=64, seed=seed)
        policy.model.to(torch.float64)
        return policy

    policy = made(0)
    start = {name: tensor.clone() for name, tensor in policy.tensors().items()}
    return Subject(policy, start, made(1).snapshot("other"))


def gradient(
    trees: Sequence[Tree], algorithm: Algorithm, *, budget: int = 10_000, credits: Sequence[Credit] | None = None
) -> torch.Tensor:
    """The gradient of one update from the same start: AdamW's first moment after one step without decay."""
    with torch.no_grad():
        for name, tensor in subject().policy.tensors().items():
            tensor.copy_(subject().start[name])
    optimiser = OptimiserSettings(learning_rate=1e-3, betas=(0.0, 0.9), maximum_gradient_norm=None)
    learner = Learner(
        subject().policy, algorithm, optimiser, reference=subject().reference, tokens_per_microbatch=budget
    )
    learner.update(trees, credits if credits is not None else learner.credit(trees), step=1)
    moments = learner.state()[0]
    parameters = subject().policy.trainable_parameters()
    if not moments:
        return torch.zeros(sum(parameter.numel() for parameter in parameters.values()), dtype=torch.float64)
    return torch.cat([moments[f"first_moment.{name}"].flatten() for name in parameters])


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return float((one - other).norm()) <= RESOLUTION * max(float(other.norm()), 1e-3)


@st.composite
def forests(draw: st.DrawFn) -> list[Tree]:
    """Two or three random trees over the policy's vocabulary: fans at any depth, dialogues, failures."""
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    trees = [random_tree(generator, depth=3, id=f"tree {index}") for index in range(draw(st.integers(2, 3)))]
    return [
        replace(tree, segments=tuple(replace(s, tokens=s.tokens % VOCABULARY) for s in tree.segments)) for tree in trees
    ]


@few
@given(trees=forests(), algorithm=algorithms, budget=st.integers(1, 40), seed=st.integers(0, 99))
def test_neither_order_nor_cuts_matter(trees: list[Tree], algorithm: Algorithm, budget: int, seed: int) -> None:
    whole = gradient(trees, algorithm)
    order = np.random.default_rng(seed).permutation(len(trees)).tolist()
    assert same(gradient([trees[index] for index in order], algorithm, budget=budget), whole)


@few
@given(trees=forests(), algorithm=algorithms, data=st.data())
def test_a_segment_cut_in_two_does_not_matter(trees: list[Tree], algorithm: Algorithm, data: st.DataObject) -> None:
    tree = trees[0]
    long = [index for index, segment in enumerate(tree.segments) if len(segment) > 1]
    index = data.draw(st.sampled_from(long))
    halves = tree.split(index, data.draw(st.integers(1, len(tree.segments[index]) - 1)))
    assert same(gradient([halves, *trees[1:]], algorithm), gradient(trees, algorithm))


def with_failed_sibling(tree: Tree, place: int, length: int, seed: int) -> Tree:
    """The same tree with one more rollout below a segment that has continuations already; this one failed."""
    broken = Segment(
        Source.POLICY,
        np.random.default_rng(seed).integers(2, VOCABULARY, length),
        place,
        outcome=Outcome(Ending.FAILED, "broken"),
    )
    return Tree.build(tree.id, tree.task_id, [*tree.segments, broken])


@few
@given(trees=forests(), algorithm=algorithms, length=st.integers(1, 6), data=st.data())
def test_a_failed_sibling_is_as_if_it_had_never_been_sampled(
    trees: list[Tree], algorithm: Algorithm, length: int, data: st.DataObject
) -> None:
    inner = [index for index, below in enumerate(trees[0].children) if below]
    place = data.draw(st.sampled_from(inner))
    beside = with_failed_sibling(trees[0], place, length, seed=length)
    assert same(gradient([beside, *trees[1:]], algorithm), gradient(trees, algorithm))


@few
@given(
    scores=st.lists(st.sampled_from([0.0, 0.5, 1.0, None]), min_size=2, max_size=5),
    algorithm=st.sampled_from(["reinforce, penalised", "rloo, exact", "rloo, exact in both"]).map(
        ALGORITHMS.__getitem__
    ),
    seed=st.integers(0, 999),
)
def test_sharing_a_prompt_is_a_matter_of_speed(scores: list[float | None], algorithm: Algorithm, seed: int) -> None:
    """A fan against its rollouts as trees of their own, with the credit and so the weights of the fan."""
    tree = fan("fan", scores, seed=seed)
    alone = [Tree(f"alone {leaf}", "fan", (tree.segments[0], replace(tree.segments[leaf], parent=0)))
             for leaf in tree.leaves]  # fmt: skip
    learner = Learner(subject().policy, algorithm, OptimiserSettings(), reference=subject().reference)
    with torch.no_grad():
        for name, tensor in subject().policy.tensors().items():
            tensor.copy_(subject().start[name])
    (credit,) = learner.credit([tree])
    prompt = len(tree.segments[0])
    parts = []
    for leaf in tree.leaves:
        own = np.concatenate([np.arange(prompt), np.flatnonzero(tree.flat.segment == leaf)])
        parts.append(Credit(credit.advantages[own], credit.mask[own]))
    assert same(gradient(alone, algorithm, credits=parts), gradient([tree], algorithm, credits=[credit]))


@few
@given(trees=forests(), algorithm=algorithms)
def test_garbage_where_no_loss_is_does_not_matter(trees: list[Tree], algorithm: Algorithm) -> None:
    clean = gradient(trees, algorithm)
    learner = Learner(subject().policy, algorithm, OptimiserSettings(), reference=subject().reference)
    with torch.no_grad():
        for name, tensor in subject().policy.tensors().items():
            tensor.copy_(subject().start[name])
    credits = [
        replace(credit, advantages=np.where(credit.mask, credit.advantages, np.nan)) for credit in learner.credit(trees)
    ]
    assert torch.equal(gradient(trees, algorithm, credits=credits), clean)


def test_the_properties_are_not_kept_by_standing_still() -> None:
    """Every algorithm has a gradient on these trees, and another one on other trees."""
    trees = [fan("fan", [1.0, 0.0, 0.5], seed=1), fan("pair", [0.0, 1.0], seed=2)]
    for algorithm in ALGORITHMS.values():
        found = gradient(trees, algorithm)
        assert float(found.norm()) > 1e-3
        assert not same(gradient(trees[:1], algorithm), found)
