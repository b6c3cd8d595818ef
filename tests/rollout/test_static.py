"""The decode step in fixed shapes draws what the one in growing shapes draws; only the CUDA graph needs a GPU."""

import pytest
import torch
from sampling_checks import collect, jobs, same_draws, score_difference
from test_sampler import MIXED, TRUNCATING
from test_turns import Echo

from laurel.policy import Policy
from laurel.rollout import Job, Limits, LocalSampler
from laurel.rollout.static import StaticShapes
from laurel.tasks import Task
from laurel.tree import Sampling


@pytest.mark.parametrize("sampling", [Sampling(), TRUNCATING[-1]])
@pytest.mark.parametrize("rows", [2, 5, 64])
def test_static_equals_dynamic(policy: Policy, sampling: Sampling, rows: int) -> None:
    asked = [*jobs(MIXED, 4), Job("e", Task("e", "a"), 3, Echo())]
    options = {"sampling": sampling, "max_turns": 3, "stop_strings": ("c",), "max_new_tokens": 20}
    same_draws(
        collect(policy, asked, rows=rows, static=True, **options),  # type: ignore[arg-type]
        collect(policy, asked, **options),  # type: ignore[arg-type]
    )


def test_one_step_serves_all_calls_and_sees_new_weights(policy: Policy) -> None:
    sampler = LocalSampler(policy, Sampling(), Limits(max_new_tokens=10), seed=0, static=True)
    first = sampler.collect(jobs(["a" * 40, "b" * 64], 4), policy_version=0)
    step = sampler._static
    weight = policy.model.get_input_embeddings().weight
    with torch.no_grad():
        weight.mul_(1.1)
    try:
        second = sampler.collect(jobs(["a" * 50], 3), policy_version=1)
        assert sampler._static is step
        assert score_difference(policy, second) < 1e-5 < score_difference(policy, first)
    finally:
        with torch.no_grad():
            weight.div_(1.1)


def test_shapes_cover_and_settle() -> None:
    small = StaticShapes.of(8, torch.tensor([40, 65]).numpy(), torch.tensor([3, 9]).numpy())
    assert small == StaticShapes(rows=8, prompts=2, width=8, prefix=128)
    assert small.cover(StaticShapes(4, 3, 2, 64)) == StaticShapes(8, 3, 8, 128)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_captured_step_draws_what_an_eager_one_draws() -> None:
    from laurel.policy import tiny

    made = tiny(hidden_size=32)
    made.model.to("cuda")
    captured = LocalSampler(made, Sampling(), Limits(max_new_tokens=20), seed=0)
    eager = LocalSampler(made, Sampling(), Limits(max_new_tokens=20), seed=0, static=False)
    for version in range(2):
        trees = captured.collect(jobs(MIXED[:2], 4), policy_version=version)
        same_draws(trees, eager.collect(jobs(MIXED[:2], 4), policy_version=version))
