"""The operations of a Llama-like layer with few passes over memory and hand-written gradients.

Each is exact and computes what the stock module computes; what is cheap to compute again is not kept for the backward
pass. Shapes: T tokens, D hidden, n heads of width W, I the inner width of the MLP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laurel.policy import products


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """y = weight * x / sqrt(mean(x^2) + epsilon) over the last dimension, [T, D] (Zhang and Sennrich 2019)."""
    if x.device.type != "cpu":
        return torch.nn.functional.rms_norm(x, weight.shape, weight, epsilon)
    normed: Tensor = _RmsNorm.apply(x, weight, epsilon)  # type: ignore[no-untyped-call]
    return normed


def joined_linear(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor:
    """Several linear maps of one input, side by side: [T, D] to [T, sum of rows of the weights]."""
    joined: Tensor = _JoinedLinear.apply(x, len(weights), *weights, *biases)  # type: ignore[no-untyped-call]
    return joined


def normed_and_rotated(
    projected: Tensor, norms: tuple[Tensor, Tensor] | None, epsilon: float, cos: Tensor, sin: Tensor, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Split the projections [T, H + 2K, W] of a layer into rotated queries [T, H, W], keys and values [T, K, W].

    Queries and keys are normalised first where the architecture has `norms` for them. The first half of a head turns
    with the second (Su et al. 2021):  y1 = x1 cos - x2 sin,  y2 = x2 cos + x1 sin.

    Args:
        projected: queries, keys, values.
        norms: [W] weights of the norms of queries and keys.
        epsilon: of those norms.
        cos, sin: [T, W / 2].
        heads: H.
    """
    pair = (None, None) if norms is None else norms
    query, key, value = _NormedAndRotated.apply(projected, *pair, epsilon, cos, sin, heads)  # type: ignore[no-untyped-call]
    return query, key, value


def swiglu_onto(
    residual: Tensor,
    x: Tensor,
    gate_and_up: Sequence[Tensor],
    down: Tensor,
    biases: Sequence[Tensor | None],
) -> Tensor:
    """residual + (silu(gate x) * (up x)) down, [T, D] (Shazeer 2020).

    Args:
        residual, x: [T, D].
        gate_and_up: two [I, D].
        down: [D, I].
        biases: of gate, up and down.
    """
    total: Tensor = _SwiGluOnto.apply(residual, x, *gate_and_up, down, *biases)  # type: ignore[no-untyped-call]
    return total


def linear_onto(residual: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """residual + weight x + bias, [T, D]."""
    total: Tensor = _LinearOnto.apply(residual, x, weight, bias)  # type: ignore[no-untyped-call]
    return total


def rows_of(x: Tensor, rows: Tensor) -> Tensor:
    """`x[rows]` with a gradient that adds up in order, on all cores (that of indexing does not)."""
    return torch.nn.functional.embedding(rows, x)


def inverse_root_mean_square(x: Tensor, epsilon: float) -> Tensor:
    """1 / sqrt(mean(x^2) + epsilon) over the last dimension, which is kept; in float32 or better."""
    precise = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=precise)
    inverse: Tensor = norm.square_().mul_(1 / x.shape[-1]).add_(epsilon).rsqrt_()
    return inverse


def rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Write `x` [T, n, W] turned by the angles of `cos`, `sin` [T, 1, W / 2] into `out`."""
    half = x.shape[-1] // 2
    pair = (*x.shape[:-1], 2, half)
    torch.mul(x.view(pair), cos.unsqueeze(-2), out=out.view(pair))
    out[..., :half].addcmul_(x[..., half:], sin, value=-1)
    out[..., half:].addcmul_(x[..., :half], sin)


def _norm_gradient(gradient: Tensor, x: Tensor, weight: Tensor, inverse: Tensor, out: Tensor) -> Tensor:
    """Of the norm's input, into `out` (which may be `gradient`); returns gradient * normed, whose sum is the weight's.

    With u = x * inverse and g the gradient:  dx = inverse * (g w - u mean(g w u)),  dw = sum(g u).
    """
    normed = (x * inverse).to(x.dtype)
    product = gradient * normed
    mean = torch.mul(product, weight).sum(-1, keepdim=True, dtype=inverse.dtype).mul_(1 / x.shape[-1])
    torch.mul(gradient, weight, out=out)
    out.addcmul_(normed, mean.to(out.dtype), value=-1).mul_(inverse)
    return product


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        inverse = inverse_root_mean_square(x, epsilon)
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).to(x.dtype).mul_(weight)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        out = torch.empty_like(x)
        product = _norm_gradient(gradient, x, weight, inverse, out)
        return out, product.sum(0) if ctx.needs_input_grad[1] else None, None


def _joined(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor:
    """One product where the copy of the weights is smaller than the result, else one each."""
    if len(x) < x.shape[-1]:
        return torch.cat([products.linear(x, w, b) for w, b in zip(weights, biases, strict=True)], -1)
    return products.linear(x, torch.cat(list(weights)), joined_bias(biases))


def joined_bias(biases: Sequence[Tensor | None]) -> Tensor | None:
    """All biases end to end; architectures have all of a kind or none."""
    present = [bias for bias in biases if bias is not None]
    return torch.cat(present) if present else None


class _JoinedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int, *parameters: Tensor | None) -> Tensor:
        weights: Any = parameters[:count]
        ctx.save_for_backward(x, *parameters)
        ctx.count = count
        return _joined(x, weights, parameters[count:])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        weights, biases = parameters[: ctx.count], parameters[ctx.count :]
        grad_x, grad_weights, grad_biases = _linear_gradients(gradient, x, weights, biases)
        return grad_x, None, *grad_weights, *grad_biases


def _linear_gradients(
    gradient: Tensor, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]
) -> tuple[Tensor, Sequence[Tensor], Sequence[Tensor | None]]:
    """Of the input, the weights and the biases of `_joined`."""
    sizes = [len(weight) for weight in weights]
    grad_weights = torch.split(products.weight_gradient(gradient, x), sizes)
    grad_x = products.input_gradient(gradient, torch.cat(list(weights)))
    sums = torch.split(gradient.sum(0), sizes) if any(bias is not None for bias in biases) else [None] * len(weights)
    return grad_x, grad_weights, sums


class _LinearOnto(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residual: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return products.linear_onto(residual, x, weight, bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        return (
            gradient,
            products.input_gradient(gradient, weight) if needs[1] else None,
            products.weight_gradient(gradient, x) if needs[2] else None,
            gradient.sum(0) if needs[3] else None,
        )


class _NormedAndRotated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        query_norm: Tensor | None,
        key_norm: Tensor | None,
        epsilon: float,
        cos: Tensor,
        sin: Tensor,
        heads: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        rotating = heads + (projected.shape[1] - heads) // 2
        source, inverse = projected[:, :rotating], None
        if query_norm is not None and key_norm is not None:
            inverse = inverse_root_mean_square(source, epsilon)
            source = (source * inverse).to(projected.dtype)
            source[:, :heads].mul_(query_norm)
            source[:, heads:].mul_(key_norm)
            ctx.save_for_backward(cos, sin, query_norm, key_norm, projected, inverse)
        else:
            ctx.save_for_backward(cos, sin)
        rotated = torch.empty_like(source, memory_format=torch.contiguous_format)
        rotate(source, cos.unsqueeze(1), sin.unsqueeze(1), rotated)
        return rotated[:, :heads], rotated[:, heads:], projected[:, rotating:]

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_query: Tensor, grad_key: Tensor, grad_value: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin, *normed = ctx.saved_tensors
        tokens, heads, width = grad_query.shape
        rotating = heads + grad_key.shape[1]
        gradient = grad_query.new_empty(tokens, rotating + grad_value.shape[1], width)
        cos, back = cos.unsqueeze(1), sin.unsqueeze(1).neg()
        rotate(grad_query, cos, back, gradient[:, :heads])
        rotate(grad_key, cos, back, gradient[:, heads:rotating])
        gradient[:, rotating:].copy_(grad_value)
        if not normed:
            return gradient, None, None, None, None, None, None
        query_norm, key_norm, projected, inverse = normed
        weight_gradients = []
        for weight, part in ((query_norm, slice(0, heads)), (key_norm, slice(heads, rotating))):
            own = gradient[:, part]
            product = _norm_gradient(own, projected[:, part], weight, inverse[:, part], own)
            weight_gradients.append(product.sum((0, 1)))
        return gradient, *weight_gradients, None, None, None, None


class _SwiGluOnto(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, residual: Tensor, x: Tensor, gate: Tensor, up: Tensor, down: Tensor, *biases: Tensor | None
    ) -> Tensor:
        both = _joined(x, (gate, up), biases[:2])
        ctx.save_for_backward(x, both, gate, up, down, *biases)
        opened, raised = both.chunk(2, -1)
        return products.linear_onto(residual, torch.nn.functional.silu(opened).mul_(raised), down, biases[2])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, both, gate, up, down, *biases = ctx.saved_tensors
        opened, raised = both.chunk(2, -1)
        grad_both = torch.empty_like(both)
        grad_opened, grad_raised = grad_both.chunk(2, -1)
        silu = torch.nn.functional.silu(opened)
        inner = products.input_gradient(gradient, down)
        torch.mul(inner, silu, out=grad_raised)
        torch.ops.aten.silu_backward.grad_input(inner.mul_(raised), opened, grad_input=grad_opened)
        grad_down = products.weight_gradient(gradient, silu.mul_(raised))
        del inner, silu
        grad_x, grad_weights, grad_biases = _linear_gradients(grad_both, x, (gate, up), biases[:2])
        grad_down_bias = None if biases[2] is None else gradient.sum(0)
        return gradient, grad_x, *grad_weights, grad_down, *grad_biases, grad_down_bias
