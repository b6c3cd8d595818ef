"""An operation without forward-mode derivatives, which a method with a trust region needs of every model."""

from __future__ import annotations

from typing import Any

import torch


class Untangible(torch.autograd.Function):
    """The identity, whose forward-mode derivative is missing."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient
