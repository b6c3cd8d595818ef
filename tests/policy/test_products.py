"""Products of either library against the same products in float64, and the same bits when repeated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from laurel.policy import products

LARGE, SMALL = (70, 160, 200), (3, 5, 4)  # rows, inputs, outputs: above and below what oneDNN is asked for


def _drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _check(one: Tensor, exact: Tensor) -> None:
    assert one.dtype == torch.float32
    torch.testing.assert_close(one.double(), exact, rtol=1e-5, atol=2e-5 * float(exact.abs().max()))


@pytest.fixture(params=[LARGE, SMALL], ids=["large", "small"])
def shape(request: pytest.FixtureRequest) -> tuple[int, int, int]:
    rows, inputs, outputs = request.param
    assert (rows * inputs * outputs >= products.SMALLEST) == (request.param == LARGE)
    return rows, inputs, outputs


@torch.no_grad()
@pytest.mark.parametrize("biased", [False, True])
def test_linear_and_linear_onto(shape: tuple[int, int, int], biased: bool) -> None:
    rows, inputs, outputs = shape
    x, weight, residual = _drawn(rows, inputs), _drawn(outputs, inputs), _drawn(rows, outputs)
    bias = _drawn(outputs) if biased else None
    exact = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    kept = residual.clone()
    _check(products.linear(x, weight, bias), exact)
    _check(products.linear(x.T.contiguous().T, weight, bias), exact)  # strided rows
    _check(products.linear_onto(residual, x, weight, bias), exact + residual.double())
    _check(products.PreparedWeight(weight).linear(x, bias), exact)
    assert torch.equal(residual, kept)


@torch.no_grad()
def test_gradients(shape: tuple[int, int, int]) -> None:
    rows, inputs, outputs = shape
    gradient, x, weight = _drawn(rows, outputs), _drawn(rows, inputs), _drawn(outputs, inputs)
    _check(products.input_gradient(gradient, weight), gradient.double() @ weight.double())
    _check(products.weight_gradient(gradient, x), gradient.double().T @ x.double())
    half = _drawn(rows, 2 * outputs)[:, ::2]  # columns with a stride, as a part of a joined projection has
    _check(products.weight_gradient(half, x), half.double().T @ x.double())
    _check(products.input_gradient(half, weight), half.double() @ weight.double())


@torch.no_grad()
@pytest.mark.parametrize(
    "product",
    [
        lambda: products.linear(_drawn(90, 256), _drawn(512, 256)),
        lambda: products.weight_gradient(_drawn(900, 64), _drawn(900, 96)),
        lambda: products.PreparedWeight(_drawn(512, 256)).linear(_drawn(90, 256)),
    ],
)
def test_repeated_products_have_the_same_bits(product: Callable[[], Tensor]) -> None:
    first = product()
    assert all(torch.equal(first, product()) for _ in range(5))


def test_where_a_gradient_is_recorded_it_flows() -> None:
    x, weight = _drawn(70, 160).requires_grad_(), _drawn(200, 160).requires_grad_()
    products.linear(x, weight).sum().backward()
    assert x.grad is not None and weight.grad is not None
    torch.testing.assert_close(x.grad, weight.detach().sum(0).expand(70, -1))
    torch.testing.assert_close(weight.grad, x.detach().sum(0).expand(200, -1), rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_other_precisions_are_kept() -> None:
    x, weight = _drawn(70, 160).double(), _drawn(200, 160).double()
    torch.testing.assert_close(products.linear(x, weight), x @ weight.T, rtol=0, atol=1e-12)
    assert products.weight_gradient(x, x).dtype == torch.float64
