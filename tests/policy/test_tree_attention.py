"""Blocks are exact: against a mask from the definition, in value and gradient, for random trees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import ancestors, random_tree

from laurel.policy import TreeAttention, pack, tree_blocks
from laurel.policy.attention import LayerCall
from laurel.tree import Tree


def plan(trees: list[Tree]) -> TreeAttention:
    return TreeAttention.of(pack(trees, [tree.flat.policy for tree in trees]))


def layer_call(total: int, *, heads: int = 4, key_heads: int = 2, width: int = 8, seed: int = 0, **more) -> LayerCall:  # type: ignore[no-untyped-def]
    draw = torch.Generator().manual_seed(seed)
    tensors = [
        torch.randn(1, total, count, width, dtype=torch.float64, generator=draw).transpose(1, 2).requires_grad_()
        for count in (heads, key_heads, key_heads)
    ]
    return LayerCall(0, *tensors, **{"scale": 0.4, "window": None, "softcap": None, **more})


def by_definition(call: LayerCall, allowed: np.ndarray) -> torch.Tensor:
    groups = call.query.shape[1] // call.key.shape[1]
    key, value = call.key.repeat_interleave(groups, 1), call.value.repeat_interleave(groups, 1)
    weights = torch.exp(call.query @ key.mT * call.scale) * torch.from_numpy(allowed)
    return (weights / weights.sum(-1, keepdim=True) @ value).transpose(1, 2)


@pytest.fixture(params=["blocks", "rows"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test under both ways to cut a tree."""
    monkeypatch.setattr(tree_blocks, "CALL_COST", 0 if request.param == "blocks" else 10**9)
    return str(request.param)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=3),
    segments=st.integers(1, 9),
    key_heads=st.sampled_from([1, 2, 4]),
)
def test_blocks_equal_the_definition_with_gradients(cut: str, seeds: list[int], segments: int, key_heads: int) -> None:
    trees = [random_tree(seed, segments=segments) for seed in seeds]
    sizes = [len(tree.flat) for tree in trees]
    call = layer_call(sum(sizes), key_heads=key_heads)
    allowed = np.zeros((sum(sizes), sum(sizes)), np.bool_)
    for tree, end in zip(trees, np.cumsum(sizes), strict=True):
        allowed[end - len(tree.flat) : end, end - len(tree.flat) : end] = ancestors(tree.flat)
    inputs = (call.query, call.key, call.value)
    ours, expected = plan(trees).attend(call), by_definition(call, allowed)
    torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)
    direction = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for one, other in zip(
        torch.autograd.grad(ours, inputs, direction), torch.autograd.grad(expected, inputs, direction), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


def poisoned(call: LayerCall, tokens: list[int]) -> LayerCall:
    """The same call with NaN in queries, keys and values of some tokens."""
    tensors = [tensor.detach().clone() for tensor in (call.query, call.key, call.value)]
    for tensor in tensors:
        tensor[:, :, tokens] = torch.nan
    return replace(call, **dict(zip(("query", "key", "value"), (t.requires_grad_() for t in tensors), strict=True)))


@pytest.mark.parametrize("more", [{}, {"window": 3}, {"softcap": 1.5}])
def test_poison_in_another_tree_reaches_no_value_and_no_gradient(cut: str, more: dict[str, float]) -> None:
    trees = [random_tree(1), random_tree(2)]
    first, total = len(trees[0].flat), sum(len(tree.flat) for tree in trees)
    clean = layer_call(total, **more)
    results = []
    for call in (clean, poisoned(clean, [*range(first, total)])):
        output = plan(trees).attend(call)[:, :first]
        gradients = torch.autograd.grad(output.sum(), (call.query, call.key, call.value))
        results.append([output, *(gradient[:, :, :first] for gradient in gradients)])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_poison_in_a_leaf_reaches_no_other_leaf(cut: str) -> None:
    tree = random_tree(1)
    flat = tree.flat
    for leaf in tree.leaves:
        own = [*range(flat.starts[leaf], flat.ends[leaf])]
        others = [t for other in tree.leaves if other != leaf for t in range(flat.starts[other], flat.ends[other])]
        call = layer_call(len(flat))
        clean, dirty = (plan([tree]).attend(one)[:, others] for one in (call, poisoned(call, own)))
        assert torch.equal(clean, dirty)


ONE_TOO_NARROW = int(random_tree(5).flat.position.max())
"""The deepest token of that tree does not see the first."""


@pytest.mark.parametrize("window", [1, 3, ONE_TOO_NARROW, 100])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_window_and_softcap_follow_the_path(window: int, softcap: float | None) -> None:
    tree = random_tree(5)
    flat = tree.flat
    call = layer_call(len(flat), window=window, softcap=softcap)
    near = flat.position[:, None] - flat.position[None, :] < window
    scores = call.query @ call.key.repeat_interleave(2, 1).mT * call.scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = torch.exp(scores) * torch.from_numpy(ancestors(flat) & near)
    expected = (weights / weights.sum(-1, keepdim=True) @ call.value.repeat_interleave(2, 1)).transpose(1, 2)
    torch.testing.assert_close(plan([tree]).attend(call), expected, atol=1e-10, rtol=1e-10)


def test_values_of_another_width() -> None:
    tree = random_tree(6)
    call = layer_call(len(tree.flat), key_heads=4)
    narrow = LayerCall(0, call.query, call.key, call.value[..., :3], 0.4, None, None)
    torch.testing.assert_close(plan([tree]).attend(narrow), plan([tree]).attend(call)[..., :3], atol=1e-12, rtol=0)


def test_half_precision_is_close(cut: str) -> None:
    tree = random_tree(6)
    exact = layer_call(len(tree.flat))
    half = replace(
        exact,
        query=exact.query.detach().bfloat16().requires_grad_(),
        key=exact.key.detach().bfloat16().requires_grad_(),
        value=exact.value.detach().bfloat16().requires_grad_(),
    )
    outputs = [plan([tree]).attend(call) for call in (exact, half)]
    assert outputs[1].dtype == torch.bfloat16
    torch.testing.assert_close(outputs[1].double(), outputs[0], atol=0.05, rtol=0.05)
    gradients = [
        torch.autograd.grad(output.sum(), (call.query, call.key, call.value))
        for output, call in zip(outputs, (exact, half), strict=True)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other.double(), one, atol=0.1, rtol=0.1)
