"""The exact KL to a reference against the naive formula: value, gradient, truncation, temperature and memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from laurel.objectives import Divergence
from laurel.objectives.distillation import FORMS
from laurel.policy import Policy, pack, tiny
from laurel.policy.divergence import Compared, divergence
from laurel.policy.log_probs import Head, KeptIds, Rows
from laurel.rollout import Job, Limits, LocalSampler
from laurel.tasks import Task
from laurel.tree import Sampling


def rows_of(count: int, temperatures: list[float], vocabulary: int, seed: int, kept: bool) -> Rows:
    """One token per row; where `kept`, every second row keeps it and a few others."""
    draw = np.random.default_rng(seed)
    token = draw.integers(vocabulary, size=count)
    support = None
    if kept:
        ids = [
            np.union1d(token[r], draw.integers(vocabulary, size=3)) if r % 2 else np.empty(0, np.int64)
            for r in range(count)
        ]
        support = KeptIds(torch.as_tensor(np.concatenate(ids).astype(np.int64)), np.cumsum([0, *map(len, ids)]))
    return Rows(torch.tensor(temperatures), torch.arange(count), torch.as_tensor(token), np.arange(count + 1), support)


def scores(hidden: torch.Tensor, head: Head, rows: Rows, row: int) -> torch.Tensor:
    """Log-probabilities of the kept tokens of one row, written out."""
    logits = hidden[row] @ head.weight.T
    if head.bias is not None:
        logits = logits + head.bias
    logits = logits * head.scale
    if head.softcap is not None:
        logits = torch.tanh(logits / head.softcap) * head.softcap
    if rows.kept is not None and rows.kept.offsets[row + 1] > rows.kept.offsets[row]:
        logits = logits[rows.kept.ids[rows.kept.offsets[row] : rows.kept.offsets[row + 1]]]
    return torch.log_softmax(logits / rows.temperatures[row], 0)


def written_out(form: Divergence, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """A divergence from log-probabilities over the kept tokens of one row, for autograd to differentiate."""
    if form.form == "reverse":
        return (p.exp() * (p - q)).sum()
    if form.form == "forward":
        return (q.exp() * (q - p)).sum()
    m = torch.log(form.mixture * q.exp() + (1 - form.mixture) * p.exp())
    return form.mixture * (q.exp() * (q - m)).sum() + (1 - form.mixture) * (p.exp() * (p - m)).sum()


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 7),
    vocabulary=st.integers(2, 9),
    chunk=st.integers(1, 40),
    softcap=st.sampled_from([None, 2.0]),
    scale=st.sampled_from([1.0, 0.4]),
    bias=st.booleans(),
    kept=st.booleans(),
    form=st.sampled_from([Divergence(), Divergence("forward"), Divergence("jensen_shannon", 0.3)]),
    seed=st.integers(0, 10**6),
)
def test_chunks_equal_the_naive_formula(
    count: int,
    vocabulary: int,
    chunk: int,
    softcap: float | None,
    scale: float,
    bias: bool,
    kept: bool,
    form: Divergence,
    seed: int,
) -> None:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    hidden, weight = normal(count, 5).requires_grad_(), normal(vocabulary, 5).requires_grad_()
    offset = normal(vocabulary).requires_grad_() if bias else None
    head = Head(weight, offset, scale, softcap)
    other = Compared(normal(count, 5), Head(normal(vocabulary, 5), None, scale, softcap))
    rows = rows_of(count, (0.5 + torch.rand(count, generator=draw)).tolist(), vocabulary, seed, kept)
    ours = divergence(hidden, head, other, rows, form=form, chunk_elements=chunk)
    pairs = [(scores(hidden, head, rows, r), scores(other.hidden, other.head, rows, r)) for r in range(count)]
    naive = torch.stack([written_out(form, p, q) for p, q in pairs])
    torch.testing.assert_close(ours, naive, atol=1e-12, rtol=1e-12)
    assert (ours >= -1e-15).all()
    direction = normal(count)
    inputs = [tensor for tensor in (hidden, weight, offset) if tensor is not None]
    gradients = [torch.autograd.grad((part * direction).sum(), inputs) for part in (ours, naive)]
    for one, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(one, theirs, atol=1e-11, rtol=1e-11)


def test_by_hand() -> None:
    """p = (1/4, 3/4) against q = (1/2, 1/2): log 2 - H(p); at temperature 1/2, p = (1/10, 9/10)."""
    head = Head(torch.tensor([[0.0], [math.log(3.0)]], dtype=torch.float64))
    other = Compared(torch.zeros(2, 1, dtype=torch.float64), head)
    rows = Rows(torch.tensor([1.0, 0.5]), torch.tensor([0, 1]), torch.tensor([0, 1]), np.arange(3))
    found = divergence(torch.ones(2, 1, dtype=torch.float64), head, other, rows)
    expected = [math.log(2) + sum(p * math.log(p) for p in pair) for pair in ((0.25, 0.75), (0.1, 0.9))]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def small(seed: int = 0) -> Policy:
    return tiny(alphabet="abcd", hidden_size=16, layers=1, heads=2, context_length=12, seed=seed)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7, top_k=3)], ids=["plain", "truncated"])
def test_a_policy_and_its_snapshot_are_at_distance_zero_and_another_one_is_not(sampling: Sampling) -> None:
    made, other = small(), small(seed=1)
    jobs = [Job(f"{letter}", Task(letter, letter, None), 4) for letter in "ab"]
    trees = LocalSampler(made, sampling, Limits(max_new_tokens=5), seed=0).collect(jobs, policy_version=0)
    packed = pack(trees, [tree.flat.policy for tree in trees])
    same = made.token_scores(packed, reference=made.snapshot("now"))
    assert same.divergence is not None and torch.equal(same.divergence, torch.zeros_like(same.divergence))
    far = made.token_scores(packed, reference=other.snapshot("other"))
    assert far.divergence is not None and (far.divergence > 0).all()
    assert torch.equal(far.log_probs, same.log_probs) and far.divergence.shape == far.log_probs.shape
    assert made.token_scores(packed).divergence is None


def test_it_is_the_expected_log_ratio_of_the_scored_distribution() -> None:
    """Averaged over the whole vocabulary at one place, log pi - log ref is the divergence there."""
    made, reference = small(), small(seed=1).snapshot("other")
    jobs = [Job("a", Task("a", "a", None), 1)]
    (tree,) = LocalSampler(made, Sampling(), Limits(max_new_tokens=1), seed=0).collect(jobs, policy_version=0)
    packed = pack([tree], [tree.flat.policy])
    found = made.token_scores(packed, reference=reference)
    theirs = reference.compared(packed)
    with torch.no_grad():
        hidden = made._predictors(packed)
        now, then = (torch.log_softmax(h.logits(x), -1) for h, x in ((made.head, hidden), (theirs.head, theirs.hidden)))
    assert found.divergence is not None
    torch.testing.assert_close(found.divergence, (now.exp() * (now - then)).sum(1), atol=1e-6, rtol=1e-5)
    found.divergence.sum().backward()  # type: ignore[no-untyped-call]
    assert all(bool(torch.isfinite(p.grad).all()) for p in made.trainable_parameters().values() if p.grad is not None)
    assert any(p.grad is not None and bool(p.grad.any()) for p in made.trainable_parameters().values())


def peak_bytes(count: int, vocabulary: int, form: Divergence, width: int = 4) -> int:
    hidden = torch.randn(count, width, requires_grad=True)
    weight = torch.randn(vocabulary, width, requires_grad=True)
    other = Compared(torch.randn(count, width), Head(torch.randn(vocabulary, width)))
    rows = rows_of(count, [1.0] * count, vocabulary, 0, False)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        divergence(hidden, Head(weight), other, rows, form=form, chunk_elements=1 << 19).sum().backward()  # type: ignore[no-untyped-call]
    events = profiler.profiler.kineto_results.events()
    steps = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    return int(np.cumsum([size for _, size in sorted(steps, key=lambda step: step[0])]).max())


@pytest.mark.parametrize(("times_tokens", "times_vocabulary"), [(8, 1), (1, 8)])
@pytest.mark.parametrize("form", FORMS)
def test_peak_memory_is_flat(times_tokens: int, times_vocabulary: int, form: str) -> None:
    low = peak_bytes(512, 1024, Divergence(form))
    assert low > 2 * (4 << 19)  # the measurement sees the chunks of both policies in float32
    assert peak_bytes(512 * times_tokens, 1024 * times_vocabulary, Divergence(form)) < 1.1 * low
