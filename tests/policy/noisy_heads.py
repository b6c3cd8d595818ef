"""Critics and reward models whose heads are not 0, for tests that need them to say something."""

from __future__ import annotations

from typing import TypeVar

import torch

from laurel.policy.scalar_head import ScalarHead

Model = TypeVar("Model", bound=ScalarHead)


def opinionated(model: Model, seed: int = 0) -> Model:
    """The same model with a head drawn at random."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.read_by.items()):
            parameter.copy_(torch.randn(parameter.shape, generator=noise))
    return model
