"""Chunked scores against the naive formula, in value, gradient and memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from laurel.policy.log_probs import Head, KeptIds, Rows, scores_of_rows


def rows_of(counts: list[int], temperatures: list[float], vocabulary: int, seed: int, kept: bool) -> Rows:
    """Row r is read `counts[r]` times; where `kept`, every second row keeps its tokens and a few others."""
    draw = np.random.default_rng(seed)
    token = draw.integers(vocabulary, size=sum(counts))
    offsets = np.cumsum([0, *counts])
    support = None
    if kept:
        ids = [
            np.union1d(token[offsets[r] : offsets[r + 1]], draw.integers(vocabulary, size=3)) if r % 2 else np.empty(0)
            for r in range(len(counts))
        ]
        support = KeptIds(torch.as_tensor(np.concatenate(ids).astype(np.int64)), np.cumsum([0, *map(len, ids)]))
    return Rows(
        torch.tensor(temperatures),
        torch.as_tensor(np.repeat(np.arange(len(counts)), counts)),
        torch.as_tensor(token),
        offsets,
        support,
    )


def naive(hidden: torch.Tensor, head: Head, rows: Rows) -> tuple[torch.Tensor, ...]:
    logits = hidden @ head.weight.T
    if head.bias is not None:
        logits = logits + head.bias
    logits = logits * head.scale
    if head.softcap is not None:
        logits = torch.tanh(logits / head.softcap) * head.softcap
    logits = logits / rows.temperatures.unsqueeze(1)
    entropies, log_probs, normalisers = [], [], []
    for r in range(len(hidden)):
        ids = torch.arange(logits.shape[1])
        if rows.kept is not None and rows.kept.offsets[r + 1] > rows.kept.offsets[r]:
            ids = rows.kept.ids[rows.kept.offsets[r] : rows.kept.offsets[r + 1]]
        scores = torch.log_softmax(logits[r, ids], 0)
        entropies.append(-(scores.exp() * scores).sum())
        normalisers.append(torch.logsumexp(logits[r, ids], 0))
        for n in range(rows.offsets[r], rows.offsets[r + 1]):
            log_probs.append(scores[ids == rows.token[n]].sum())
    return torch.stack(log_probs), torch.stack(entropies), torch.stack(normalisers)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 3), min_size=1, max_size=7),
    vocabulary=st.integers(2, 9),
    chunk=st.integers(1, 40),
    softcap=st.sampled_from([None, 2.0]),
    scale=st.sampled_from([1.0, 0.4]),
    bias=st.booleans(),
    kept=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_chunks_equal_the_naive_formula(
    counts: list[int],
    vocabulary: int,
    chunk: int,
    softcap: float | None,
    scale: float,
    bias: bool,
    kept: bool,
    seed: int,
) -> None:
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(len(counts), 5, generator=draw, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(vocabulary, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(vocabulary, generator=draw, dtype=torch.float64, requires_grad=True) if bias else None
    temperatures = (0.5 + torch.rand(len(counts), generator=draw)).tolist()
    rows = rows_of(counts, temperatures, vocabulary, seed, kept)
    head = Head(weight, offset, scale, softcap)
    ours = scores_of_rows(hidden, head, rows, chunk_elements=chunk)
    expected = naive(hidden, head, rows)
    inputs = [tensor for tensor in (hidden, weight, offset) if tensor is not None]
    directions = [torch.randn(len(part), generator=draw, dtype=torch.float64) for part in expected]
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)
    gradients = [
        torch.autograd.grad(sum((p * d).sum() for p, d in zip(pair, directions, strict=True)), inputs)
        for pair in (ours, expected)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


def test_gradient_within_a_millionth_of_the_naive_one_in_float32() -> None:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(200, 32, generator=draw, requires_grad=True)
    weight = (torch.randn(500, 32, generator=draw) / 6).requires_grad_()
    rows = rows_of([1] * 200, [1.0] * 200, 500, 0, False)
    inputs = (hidden, weight)
    pairs = (
        scores_of_rows(hidden, Head(weight), rows, chunk_elements=7 * 500),
        naive(hidden, Head(weight), rows),
    )
    one, other = (torch.autograd.grad((pair[0].sum() + pair[1].sum()) / 200, inputs) for pair in pairs)
    for mine, theirs in zip(one, other, strict=True):
        assert float((mine - theirs).abs().max()) < 1e-6


def test_by_hand() -> None:
    """Logits (0, log 3) give probabilities 1/4 and 3/4; at temperature 1/2 they give 1/10 and 9/10."""
    head = Head(torch.tensor([[0.0], [math.log(3.0)]]))
    rows = Rows(torch.tensor([1.0, 0.5]), torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), np.array([0, 2, 3]))
    log_probs, entropy, _ = scores_of_rows(torch.ones(2, 1), head, rows)
    torch.testing.assert_close(log_probs.exp(), torch.tensor([0.25, 0.75, 0.9]))
    expected = [-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)), -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))]
    torch.testing.assert_close(entropy, torch.tensor(expected))


def test_a_support_of_one_has_no_entropy_and_no_gradient() -> None:
    weight = torch.randn(6, 3, requires_grad=True)
    rows = Rows(
        torch.ones(1),
        torch.tensor([0]),
        torch.tensor([4]),
        np.array([0, 1]),
        KeptIds(torch.tensor([4]), np.array([0, 1])),
    )
    log_probs, entropy, _ = scores_of_rows(torch.randn(1, 3), Head(weight), rows)
    assert log_probs.item() == 0 and entropy.item() == 0
    (log_probs.sum() + entropy.sum()).backward()
    assert torch.equal(weight.grad, torch.zeros_like(weight))


def peak_bytes(count: int, vocabulary: int, width: int = 4) -> int:
    """Greatest sum of live allocations in a forward and backward pass, above what was there before."""
    hidden = torch.randn(count, width, requires_grad=True)
    weight = torch.randn(vocabulary, width, requires_grad=True)
    rows = rows_of([1] * count, [1.0] * count, vocabulary, 0, False)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        log_probs, entropy, _ = scores_of_rows(hidden, Head(weight), rows, chunk_elements=1 << 19)
        (log_probs.sum() + entropy.sum()).backward()
    events = profiler.profiler.kineto_results.events()
    steps = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    live = np.cumsum([size for _, size in sorted(steps, key=lambda step: step[0])])
    return int(live.max())


@pytest.mark.parametrize(("times_tokens", "times_vocabulary"), [(8, 1), (1, 8)])
def test_peak_memory_is_flat(times_tokens: int, times_vocabulary: int) -> None:
    small = peak_bytes(512, 1024)
    assert small > 4 << 19  # the measurement sees at least one chunk of float32
    assert peak_bytes(512 * times_tokens, 1024 * times_vocabulary) < 1.1 * small
