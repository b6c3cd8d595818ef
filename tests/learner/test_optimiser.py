"""AdamW, clipping and masters against hand computation and torch's own optimiser."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch.nn import Parameter

from laurel.errors import ConfigurationError, LearnerError
from laurel.learner.optimiser import Optimiser, OptimiserSettings


def parameters(dtype: torch.dtype = torch.float32) -> dict[str, Parameter]:
    generator = torch.Generator().manual_seed(3)
    return {
        "matrix": Parameter(torch.randn(5, 4, generator=generator).to(dtype)),
        "vector": Parameter(torch.randn(4, generator=generator).to(dtype)),
    }


def take_steps(optimiser: Optimiser, named: dict[str, Parameter], seeds: Sequence[int]) -> None:
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for parameter in named.values():
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        optimiser.gather_gradients()
        optimiser.step(float(optimiser.gradient_norm()))


def test_the_first_step_moves_each_weight_by_the_learning_rate_and_decays_matrices_only() -> None:
    # After one step the moments' bias corrections cancel: the move is lr * g / (|g| + eps), that is lr * sign(g).
    named = parameters()
    before = {name: value.detach().clone() for name, value in named.items()}
    optimiser = Optimiser(named, OptimiserSettings(learning_rate=0.01, weight_decay=0.5, maximum_gradient_norm=None))
    for parameter in named.values():
        parameter.grad = torch.full_like(parameter, 3.0)
    changed, inspected = optimiser.step(float(optimiser.gradient_norm()))
    assert torch.allclose(named["matrix"], before["matrix"] * (1 - 0.01 * 0.5) - 0.01, atol=1e-6)
    assert torch.allclose(named["vector"], before["vector"] - 0.01, atol=1e-6)
    assert (changed, inspected) == (24, 24)
    assert all(parameter.grad is None for parameter in named.values())


def test_it_is_adamw_of_the_clipped_gradient() -> None:
    named, twin = parameters(), parameters()
    settings = OptimiserSettings(learning_rate=0.02, betas=(0.8, 0.9), maximum_gradient_norm=1.5)
    optimiser = Optimiser(named, settings)
    plain = torch.optim.AdamW(twin.values(), lr=0.02, betas=(0.8, 0.9), weight_decay=0.0, foreach=False)
    for seed in range(4):
        take_steps(optimiser, named, [seed])
        generator = torch.Generator().manual_seed(seed)
        for parameter in twin.values():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        torch.nn.utils.clip_grad_norm_(twin.values(), 1.5)
        plain.step()
    for name, parameter in named.items():
        assert torch.allclose(parameter, twin[name], atol=1e-6)


def test_the_norm_is_over_all_gradients_together() -> None:
    named = parameters()
    optimiser = Optimiser(named, OptimiserSettings())
    named["matrix"].grad = torch.ones(5, 4)
    named["vector"].grad = torch.full((4,), 2.0)
    assert float(optimiser.gradient_norm()) == pytest.approx(math.sqrt(20 * 1 + 4 * 4))


def test_masters_keep_steps_that_bfloat16_cannot_hold() -> None:
    # A bfloat16 near 1 has neighbours 2^-7 apart: a step of 1e-4 rounds away, 100 of them are 0.01.
    weight = Parameter(torch.ones(8, 8, dtype=torch.bfloat16))
    optimiser = Optimiser({"weight": weight}, OptimiserSettings(learning_rate=1e-4, maximum_gradient_norm=None))
    for _ in range(100):
        weight.grad = torch.ones_like(weight)
        optimiser.gather_gradients()
        optimiser.step(float(optimiser.gradient_norm()))
    master = optimiser.state()[0]["master.weight"]
    assert master.dtype is torch.float32
    assert torch.allclose(master, torch.full((8, 8), 0.99), atol=1e-5)
    assert torch.equal(weight, master.to(torch.bfloat16))
    assert float(weight.detach()[0, 0]) < 1


def test_gradients_of_16_bits_add_up_in_float32() -> None:
    # 1 + 2^-10 is no bfloat16: accumulated there, sixteen small gradients would vanish.
    weight = Parameter(torch.zeros(3, dtype=torch.bfloat16))
    optimiser = Optimiser({"weight": weight}, OptimiserSettings())
    for value in [1.0, *[2.0**-10] * 16]:
        weight.grad = torch.full_like(weight, value)
        optimiser.gather_gradients()
    assert weight.grad is None
    assert float(optimiser.gradient_norm()) == pytest.approx(math.sqrt(3) * (1 + 16 * 2.0**-10), rel=1e-7)


def test_unchanged_weights_are_counted_as_unchanged() -> None:
    weight = Parameter(torch.ones(4, 4, dtype=torch.bfloat16))
    optimiser = Optimiser({"weight": weight}, OptimiserSettings(learning_rate=1e-6))
    weight.grad = torch.ones_like(weight)
    optimiser.gather_gradients()
    assert optimiser.step(float(optimiser.gradient_norm())) == (0, 16)


def test_large_parameters_are_inspected_by_a_sample_that_visits_every_column() -> None:
    weight = Parameter(torch.zeros(1024, 256))
    optimiser = Optimiser({"weight": weight}, OptimiserSettings(learning_rate=0.1))
    weight.grad = torch.zeros_like(weight)
    weight.grad[:, :64] = 1.0
    changed, inspected = optimiser.step(float(optimiser.gradient_norm()))
    assert inspected < weight.numel() / 4
    assert changed / inspected == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_resumed_optimiser_goes_on_bit_for_bit(dtype: torch.dtype) -> None:
    settings = OptimiserSettings(learning_rate=0.03, schedule="cosine", warmup_steps=2, weight_decay=0.1)
    named = parameters(dtype)
    optimiser = Optimiser(named, settings, total_steps=10)
    take_steps(optimiser, named, range(6))

    halfway = parameters(dtype)
    first = Optimiser(halfway, settings, total_steps=10)
    take_steps(first, halfway, range(3))
    tensors, counters = first.state()
    saved = {name: tensor.clone() for name, tensor in tensors.items()}
    resumed = {name: Parameter(parameter.detach().clone()) for name, parameter in halfway.items()}
    second = Optimiser(resumed, settings, total_steps=10)
    second.load_state(saved, dict(counters))
    take_steps(second, resumed, range(3, 6))

    assert second.learning_rate == optimiser.learning_rate
    for name, parameter in named.items():
        assert torch.equal(parameter, resumed[name])
    finished, again = optimiser.state()[0], second.state()[0]
    assert finished.keys() == again.keys()
    assert all(torch.equal(finished[name], again[name]) for name in finished)


def test_the_state_is_flat_and_empty_before_the_first_step() -> None:
    named = parameters()
    optimiser = Optimiser(named, OptimiserSettings())
    assert optimiser.state() == ({}, {"optimiser_steps": 0})
    take_steps(optimiser, named, [0])
    tensors, counters = optimiser.state()
    assert counters == {"optimiser_steps": 1}
    assert sorted(tensors) == sorted(
        f"{kind}.{name}" for kind in ("first_moment", "second_moment", "steps") for name in named
    )


def test_a_state_of_other_parameters_is_refused() -> None:
    named = parameters()
    optimiser = Optimiser(named, OptimiserSettings())
    take_steps(optimiser, named, [0])
    tensors, counters = optimiser.state()
    other = Optimiser({"matrix": Parameter(torch.zeros(5, 4))}, OptimiserSettings())
    with pytest.raises(LearnerError, match="vector"):
        other.load_state(tensors, counters)
    reshaped = Optimiser({**parameters(), "vector": Parameter(torch.zeros(7))}, OptimiserSettings())
    with pytest.raises(LearnerError, match=r"vector.*shape"):
        reshaped.load_state(tensors, counters)
    lower = Optimiser(parameters(torch.bfloat16), OptimiserSettings())
    with pytest.raises(LearnerError, match="lacks master"):
        lower.load_state(tensors, counters)


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 0.0},
        {"betas": (0.9, 1.0)},
        {"epsilon": 0.0},
        {"weight_decay": -1.0},
        {"maximum_gradient_norm": 0.0},
        {"schedule": "linaer"},
        {"warmup_steps": -1},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        OptimiserSettings(**settings)


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(LearnerError, match="no trainable parameters"):
        Optimiser({}, OptimiserSettings())


@pytest.mark.parametrize("name", ["learning_rate", "epsilon", "weight_decay", "maximum_gradient_norm"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_settings_that_are_not_finite_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=name):
        OptimiserSettings(**{name: value})  # type: ignore[arg-type]
