"""Products with the Fisher matrix: against the matrix itself, and against differences of logits in every model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from no_tangents import Untangible
from small_models import random_tree, write_model

from laurel.errors import ConfigurationError
from laurel.policy import LoraSettings, Packed, Policy, load, pack
from laurel.policy.fisher import Linearised, add_fisher_product, check_tangents
from laurel.policy.tree_attention import TreeAttention
from laurel.tree import Sampling, Segment, Source, Support, Tree

Vectors = dict[str, torch.Tensor]
TREES = [random_tree(seed, segments=4) for seed in (1, 2)]


def packed_trees() -> Packed:
    return pack(TREES, [tree.flat.policy for tree in TREES])


def visits(packed: Packed) -> torch.Tensor:
    """[R] every state as often as a token was drawn in it, together 1."""
    return torch.bincount(packed.row_of, minlength=len(packed.row_predictors)).double() / len(packed.row_of)


def noise(policy: Policy, seed: int) -> Vectors:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(parameter.shape, generator=draw, dtype=torch.float64).to(policy.dtype)
        for name, parameter in policy.trainable_parameters().items()
    }


def product(policy: Policy, packed: Packed, direction: Vectors, **more: int) -> Vectors:
    parameters = policy.trainable_parameters()
    for parameter in parameters.values():
        parameter.grad = None
    add_fisher_product(policy, Linearised.of(policy, packed), direction, visits(packed), **more)
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in parameters.items()}


def inner(left: Vectors, right: Vectors) -> float:
    return sum(float((left[name].double() * right[name].double()).sum()) for name in left)


def flat(vectors: Vectors) -> torch.Tensor:
    return torch.cat([vectors[name].reshape(-1).double() for name in sorted(vectors)])


def row_logits(policy: Policy, packed: Packed) -> torch.Tensor:
    """[R, V] after temperature, by the policy's own forward pass."""
    plan = TreeAttention.of(packed)
    hidden = policy.hidden_states(packed.tokens, packed.positions, plan, packed.row_predictors)
    return policy.head.logits(hidden) / packed.rows.temperatures[:, None].to(hidden.dtype)


@pytest.fixture
def exact(tmp_path: Path) -> Policy:
    """A transformer that computes in float64 throughout, with about a thousand weights and a tied head."""
    config = transformers.GPT2Config(
        vocab_size=39, n_embd=8, n_layer=1, n_head=2, n_positions=24, bos_token_id=None, eos_token_id=1, pad_token_id=0,
        initializer_range=0.4,
    )  # fmt: skip
    policy = load(write_model(tmp_path / "exact", config), device="cpu")
    policy.model.double()
    return policy


def test_one_graph_serves_any_number_of_products(exact: Policy) -> None:
    packed = packed_trees()
    kept = Linearised.of(exact, packed)
    for seed in (1, 2, 1):
        alone = product(exact, packed, noise(exact, seed))
        for parameter in exact.trainable_parameters().values():
            parameter.grad = None
        add_fisher_product(exact, kept, noise(exact, seed), visits(packed))
        for name, parameter in exact.trainable_parameters().items():
            assert parameter.grad is not None and torch.equal(parameter.grad, alone[name])


def test_products_are_those_of_the_fisher_matrix_of_whole_distributions(exact: Policy) -> None:
    """F = sum_s w_s sum_v p_v (grad log p_v)(grad log p_v)^T, every state and every token of the vocabulary listed."""
    packed = packed_trees()
    parameters = exact.trainable_parameters()
    log_probs = torch.log_softmax(row_logits(exact, packed), -1)
    chances = (visits(packed)[:, None] * log_probs.exp()).detach().flatten()

    def score(log_prob: torch.Tensor) -> torch.Tensor:
        gradients = torch.autograd.grad(log_prob, list(parameters.values()), retain_graph=True)
        return flat(dict(zip(parameters, gradients, strict=True)))

    scores = torch.stack([score(log_prob) for log_prob in log_probs.flatten()])
    matrix = scores.T @ (chances[:, None] * scores)
    for seed in range(3):
        direction = noise(exact, seed)
        expected = matrix @ flat(direction)
        found = flat(product(exact, packed, direction))
        assert float((found - expected).abs().max()) < 1e-10 * max(1.0, float(expected.abs().max()))


def test_temperature_and_truncation_are_part_of_the_distribution(exact: Policy) -> None:
    """One state, kept tokens 3 and 4 at temperature 0.5: F has the one eigenvector p_3 p_4 grad(z_3 - z_4)^2 there."""
    support = Support(np.array([3, 4]), np.array([0, 2]))
    answer = Segment(Source.POLICY, np.array([3]), 0, sampling=Sampling(temperature=0.5, top_k=2), support=support)
    tree = Tree.build("t", "t", [Segment(Source.PROMPT, np.array([7, 8, 9]), -1), answer])
    packed = pack([tree], [tree.flat.policy])
    parameters = exact.trainable_parameters()
    logits = row_logits(exact, packed)[0]
    chances = torch.softmax(logits[3:5], 0).detach()
    slope = torch.autograd.grad(logits[3] - logits[4], list(parameters.values()))
    slopes = dict(zip(parameters, slope, strict=True))
    direction = noise(exact, 5)
    expected = float(chances.prod()) * inner(slopes, direction) * flat(slopes)
    torch.testing.assert_close(flat(product(exact, packed, direction)), expected, rtol=1e-10, atol=1e-10)


def test_chunks_do_not_change_a_product(exact: Policy) -> None:
    packed, direction = packed_trees(), noise(exact, 1)
    whole = flat(product(exact, packed, direction))
    torch.testing.assert_close(
        flat(product(exact, packed, direction, chunk_elements=100)), whole, rtol=1e-10, atol=1e-12
    )


def test_queries_some_at_a_time_see_the_same(exact: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, direction = packed_trees(), noise(exact, 1)
    whole = flat(product(exact, packed, direction))
    monkeypatch.setattr("laurel.policy.fisher.QUERIES_AT_ONCE", 3)
    torch.testing.assert_close(flat(product(exact, packed, direction)), whole, rtol=1e-10, atol=1e-12)


def covariance(policy: Policy, packed: Packed, left: Vectors, right: Vectors) -> float:
    """u F v from differences of logits: sum_s w_s Cov_p(dz u, dz v)."""
    parameters = policy.trainable_parameters()
    step = 1e-4

    def moved(direction: Vectors) -> torch.Tensor:
        ends = []
        for sign in (1, -1):
            for name, parameter in parameters.items():
                parameter.data.add_(direction[name], alpha=sign * step)
            ends.append(row_logits(policy, packed).detach())
            for name, parameter in parameters.items():
                parameter.data.add_(direction[name], alpha=-sign * step)
        return (ends[0] - ends[1]) / (2 * step)

    chances = torch.softmax(row_logits(policy, packed).detach(), -1)
    one, two = moved(left), moved(right)
    centred = (one - (chances * one).sum(1, keepdim=True)) * two * chances
    return float(visits(packed) @ centred.sum(1))


def test_every_architecture(policy: Policy) -> None:
    """Windows, soft caps, scaled logits, tied heads, biases. Stock norms compute in float32, hence the tolerance."""
    policy.model.double()
    check_tangents(policy)
    packed = packed_trees()
    left, right = noise(policy, 1), noise(policy, 2)
    size = covariance(policy, packed, right, right)
    curved = product(policy, packed, right)
    assert inner(right, curved) == pytest.approx(size, rel=2e-3)
    assert inner(left, curved) == pytest.approx(covariance(policy, packed, left, right), abs=2e-3 * size)
    assert inner(left, curved) == pytest.approx(inner(product(policy, packed, left), right), abs=1e-4 * size)


def test_adapters(directories: Callable[[str], Path]) -> None:
    pytest.importorskip("peft", reason="the extra `lora` is not installed")
    policy = load(directories("qwen3-tied"), device="cpu", lora=LoraSettings(rank=2))
    policy.model.double()
    for name, parameter in policy.trainable_parameters().items():
        parameter.data.add_(noise(policy, 9)[name], alpha=0.1)  # a fresh adapter's A has no effect
    check_tangents(policy)
    packed, direction = packed_trees(), noise(policy, 1)
    assert all("lora" in name for name in direction)
    curved = product(policy, packed, direction)
    assert inner(direction, curved) == pytest.approx(covariance(policy, packed, direction, direction), rel=2e-3)


def test_sixteen_bits(qwen: Policy) -> None:
    packed, direction = packed_trees(), noise(qwen, 1)
    precise = inner(direction, product(qwen, packed, direction))
    qwen.model.to(torch.bfloat16)
    check_tangents(qwen)
    rough = {name: tensor.bfloat16() for name, tensor in direction.items()}
    assert inner(rough, product(qwen, packed, rough)) == pytest.approx(precise, rel=0.1)


class Crooked(Untangible):
    """The identity, whose forward-mode derivative is wrong."""

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor) -> torch.Tensor:
        return 2 * tangent


@pytest.mark.parametrize(("operation", "message"), [(Untangible, "no forward-mode"), (Crooked, "disagree")])
def test_a_model_whose_tangents_cannot_be_had_is_refused(
    exact: Policy, operation: type[Untangible], message: str
) -> None:
    check_tangents(exact)
    exact.model.get_decoder().h[0].mlp.register_forward_hook(lambda module, given, output: operation.apply(output))
    with pytest.raises(ConfigurationError, match=message):
        check_tangents(exact)
