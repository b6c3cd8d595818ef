"""Matrix products on the CPU by the faster of the two libraries that torch carries.

torch multiplies float32 matrices with MKL, which has no AVX-512 kernels for processors of other makers than its own;
oneDNN, which torch uses for convolutions, has them and is about twice as fast there (`benchmarks/products.py`). So
large float32 products on a processor with AVX-512 go to oneDNN, and all others to `torch.mm`. Which one is used
depends on the processor, the dtype and the shapes alone, so that the same run gives the same bits again. Both compute
in full float32 unless the user has asked torch for less.

Shapes: M rows, K inputs, N outputs. What oneDNN is asked for here has no gradient in torch, so it is asked only where
none is recorded: while sampling, and inside hand-written gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1 << 20
"""Multiply-adds from which oneDNN's longer start pays (measured with 1 to 256 rows of 64 to 768)."""

_HAS_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512" and bool(torch._C._has_mkldnn)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias, [M, N], from [M, K], [N, K] and [N]."""
    if not _fits(x, weight, len(weight)):
        return torch.nn.functional.linear(x, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def linear_onto(residual: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """residual + x @ weight.T + bias, [M, N]."""
    if not _fits(x, weight, len(weight)):
        total = torch.addmm(residual, x, weight.T)
        return total if bias is None else total.add_(bias)
    return linear(x, weight, bias).add_(residual)


def input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """gradient @ weight, [M, K], from [M, N] and [N, K]."""
    if not _fits(gradient, weight, weight.shape[1]):
        return gradient @ weight
    return linear(gradient, weight.T)


def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """gradient.T @ x, [N, K], from [M, N] and [M, K]: the sum over the rows of their outer products.

    oneDNN has this as the weight gradient of a convolution of one pixel, in which rows are places.
    """
    if not _fits(gradient, x, x.shape[1]):
        return gradient.T @ x
    rows, outputs, inputs = len(x), gradient.shape[1], x.shape[1]
    places = gradient.reshape(1, rows, 1, outputs).permute(0, 3, 1, 2)
    image = x.reshape(1, rows, 1, inputs).permute(0, 3, 1, 2)
    like = x.new_empty(1).expand(outputs, inputs, 1, 1)  # only its shape is read
    only_weight = [False, True, False]
    parts = torch.ops.aten.convolution_backward(
        places, image, like, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, only_weight
    )
    product: Tensor = parts[1].view(outputs, inputs)
    return product


class PreparedWeight:
    """A weight that many products will use, copied into the layout that is best for them.

    Args:
        weight: [N, K]; whether later changes to it are seen is not defined.

    Attributes:
        outputs: N.
    """

    def __init__(self, weight: Tensor) -> None:
        self.outputs = len(weight)
        self._plain = weight
        self._packed: Tensor | None = None
        if _HAS_AVX512 and weight.dtype == torch.float32 and weight.device.type == "cpu":
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x @ weight.T + bias."""
        if self._packed is None or x.numel() * self.outputs < SMALLEST:
            return torch.nn.functional.linear(x, self._plain, bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, bias, "none", [], "")
        return product

    def linear_onto(self, residual: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """residual + x @ weight.T + bias."""
        if self._packed is None or x.numel() * self.outputs < SMALLEST:
            return torch.nn.functional.linear(x, self._plain, bias).add_(residual)
        product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self._packed, bias, "add")
        return product


def _fits(left: Tensor, right: Tensor, outputs: int) -> bool:
    return (
        _HAS_AVX512
        and not torch.is_grad_enabled()
        and left.device.type == "cpu"
        and left.dtype == right.dtype == torch.float32
        and left.numel() * outputs >= SMALLEST
    )
