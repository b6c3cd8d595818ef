"""Nothing that was computed from old weights serves a later collection."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from sampling_checks import same_draws, score_difference
from test_turns import Echo

from laurel.policy import Policy
from laurel.rollout import Job, Limits, LocalSampler
from laurel.rollout.cache import PrefixBlock, RowCache
from laurel.rollout.engine import Engine
from laurel.tasks import Task
from laurel.tree import Sampling


@contextmanager
def other_weights(policy: Policy) -> Iterator[None]:
    """Every parameter is changed in place, as an optimiser does it, and put back afterwards."""
    parameters = list(policy.model.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, old in zip(parameters, before, strict=True):
                parameter.copy_(old)


def sampler_of(policy: Policy, static: bool) -> LocalSampler:
    limits = Limits(max_new_tokens=12, max_turns=3, stop_strings=("c",))
    return LocalSampler(policy, Sampling(), limits, seed=0, static=static, max_live_rows=8)


def asked() -> list[Job]:
    """Prompts that are shared and that are copied, and turns that go on; each the same in every collection."""
    plain = [Job(f"p{i}", Task(f"p{i}", prompt), 4) for i, prompt in enumerate(["ab", "a" * 40, "b" * 64])]
    return [*plain, Job("e", Task("e", "a"), 4, Echo())]


@pytest.mark.parametrize("static", [False, True])
def test_a_collection_after_an_update_equals_that_of_a_fresh_sampler(policy: Policy, static: bool) -> None:
    sampler = sampler_of(policy, static)
    old = sampler.collect(asked(), policy_version=0)
    with other_weights(policy):
        new = sampler.collect(asked(), policy_version=1)
        same_draws(new, sampler_of(policy, static).collect(asked(), policy_version=1))
        assert score_difference(policy, new) < 1e-5
        assert score_difference(policy, old) > 1e-2
    assert {s.policy_version for tree in new for s in tree.segments if s.sampling is not None} == {1}
    same_draws(sampler.collect(asked(), policy_version=0), old)


def caches() -> set[int]:
    gc.collect()
    return {id(thing) for thing in gc.get_objects() if type(thing) in (Engine, RowCache, PrefixBlock)}


def test_growing_caches_end_with_their_collection(policy: Policy) -> None:
    sampler = sampler_of(policy, static=False)
    before = caches()
    sampler.collect(asked(), policy_version=0)
    assert caches() <= before


def test_fixed_storage_is_written_before_it_is_read(policy: Policy) -> None:
    sampler = sampler_of(policy, static=True)
    expected = sampler.collect(asked(), policy_version=0)
    step = sampler._static
    assert step is not None
    stored = [
        tensor
        for home in (step.cache, step.arena)
        for tensors in (home.keys, home.values)
        for tensor in (tensors.values() if isinstance(tensors, dict) else tensors)
    ]
    assert stored
    with torch.inference_mode():
        for tensor in stored:
            tensor.fill_(9.0)
    same_draws(sampler.collect(asked(), policy_version=0), expected)
    assert sampler._static is step
