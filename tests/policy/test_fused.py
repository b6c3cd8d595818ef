"""The lean decoder computes what the stock modules compute, forwards and backwards, over the same parameters."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_like import FAMILIES, llama_like
from torch import Tensor

from laurel.policy import Policy, pack, tiny
from laurel.policy.fused import fits
from laurel.policy.fused_operations import joined_linear, normed_and_rotated, rms_norm, swiglu_onto
from laurel.policy.tree_attention import TreeAttention
from laurel.tree import Segment, Source, Tree


@pytest.fixture(scope="module", params=FAMILIES)
def fused(request: pytest.FixtureRequest) -> Policy:
    return llama_like(request.param)


def _tree(policy: Policy, tokens: int) -> Tree:
    """A prompt, two branches, and one of them branching again."""
    draw = torch.Generator().manual_seed(tokens)
    parts = [(tokens, -1), (tokens // 2, 0), (tokens, 1), (1, 1), (3, 0)]
    drawn = [torch.randint(policy.vocabulary_size, (count,), generator=draw).numpy() for count, _ in parts]
    segments = [
        Segment(Source.POLICY if parent >= 0 else Source.PROMPT, ids, parent)
        for ids, (_, parent) in zip(drawn, parts, strict=True)
    ]
    return Tree("tree", "task", tuple(segments))


def _loss_and_gradients(policy: Policy, tree: Tree) -> tuple[Tensor, dict[str, Tensor]]:
    scores = policy.token_scores(pack([tree], [tree.flat.policy]))
    weights = torch.linspace(-1, 1, len(scores.log_probs))
    total = (scores.log_probs * weights).sum() + 0.1 * scores.entropy.sum()
    parameters = policy.trainable_parameters()
    return scores.log_probs.detach(), dict(
        zip(parameters, torch.autograd.grad(total, list(parameters.values())), strict=True)
    )


@pytest.mark.parametrize("tokens", [4, 20])  # fewer tokens than words, and more
def test_log_probs_and_gradients_are_those_of_the_stock_modules(fused: Policy, tokens: int) -> None:
    tree = _tree(fused, tokens)
    assert fused.fused is not None
    ours, our_gradients = _loss_and_gradients(fused, tree)
    lean, fused.fused = fused.fused, None
    stock, stock_gradients = _loss_and_gradients(fused, tree)
    fused.fused = lean
    torch.testing.assert_close(ours, stock, rtol=0, atol=2e-5)
    for name, gradient in stock_gradients.items():
        torch.testing.assert_close(our_gradients[name], gradient, rtol=1e-4, atol=2e-4 * float(gradient.abs().max()))


def test_the_same_pass_gives_the_same_bits(fused: Policy) -> None:
    tree = _tree(fused, 20)
    first, second = _loss_and_gradients(fused, tree), _loss_and_gradients(fused, tree)
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])


def test_states_of_some_rows_are_those_of_all(fused: Policy) -> None:
    tree = _tree(fused, 9)
    packed = pack([tree], [tree.flat.policy])
    count = len(packed.tokens)
    with torch.no_grad():
        states = [
            fused.hidden_states(packed.tokens, packed.positions, TreeAttention.of(packed), rows)
            for rows in (None, torch.tensor([5, 0, 5, 2]), torch.arange(count).repeat(2))
        ]
    torch.testing.assert_close(states[1], states[0][[5, 0, 5, 2]], rtol=0, atol=2e-5)
    torch.testing.assert_close(states[2], states[0].repeat(2, 1), rtol=0, atol=2e-5)


def test_another_structure_is_left_to_the_stock_modules() -> None:
    policy = tiny(hidden_size=32, layers=1)
    decoder = policy.model.get_decoder()
    assert policy.fused is not None
    assert fits(decoder)
    handle = decoder.layers[0].mlp.register_forward_hook(lambda *_: None)
    assert not fits(decoder)
    handle.remove()
    linear = decoder.layers[0].mlp.up_proj
    decoder.layers[0].mlp.up_proj = torch.nn.Sequential(linear)
    assert not fits(decoder)
    decoder.layers[0].mlp.up_proj = linear
    assert fits(decoder)


def test_a_reference_computes_as_its_policy_does(fused: Policy) -> None:
    packed = pack([_tree(fused, 9)], [_tree(fused, 9).flat.policy])
    with torch.no_grad():
        own = fused.token_scores(packed).log_probs
    assert torch.equal(fused.snapshot("start").token_scores(packed).log_probs, own)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def test_gradients_of_the_operations_are_those_of_finite_differences() -> None:
    x, weight = _random(5, 6), _random(6, seed=1)
    assert torch.autograd.gradcheck(lambda a, w: rms_norm(a, w, 1e-2), (x, weight))
    maps = [_random(3, 6, seed=2), _random(4, 6, seed=3)]
    biases = [_random(3, seed=4), _random(4, seed=5)]
    assert torch.autograd.gradcheck(lambda a, *p: joined_linear(a, p[:2], p[2:]), (x, *maps, *biases))
    down = _random(6, 4, seed=6)
    gate_and_up = [_random(4, 6, seed=7), _random(4, 6, seed=8)]
    own = [_random(4, seed=9), _random(4, seed=10), _random(6, seed=11)]
    assert torch.autograd.gradcheck(
        lambda r, a, g, u, d, *b: swiglu_onto(r, a, (g, u), d, b), (_random(5, 6, seed=12), x, *gate_and_up, down, *own)
    )
    angles = torch.linspace(0, 3, 15, dtype=torch.float64).view(5, 3)
    for norms in (None, (_random(6, seed=13), _random(6, seed=14))):
        assert torch.autograd.gradcheck(
            lambda p, *n: normed_and_rotated(p, n or None, 1e-2, angles.cos(), angles.sin(), 3),
            (_random(5, 7, 6, seed=15), *(norms or ())),
        )


@given(st.integers(1, 9), st.integers(1, 40), st.floats(1e-6, 1e3))
@settings(max_examples=25, deadline=None)
def test_the_norm_has_unit_mean_square(tokens: int, width: int, scale: float) -> None:
    x = _random(tokens, width, seed=width).detach() * scale
    normed = rms_norm(x, torch.ones(width, dtype=x.dtype), 0.0)
    torch.testing.assert_close(normed.square().mean(-1), torch.ones(tokens, dtype=x.dtype))
