"""Metrics that are gathered where the tensors are and read back once."""

from __future__ import annotations

import torch

from laurel.metrics import GREATEST, Metric


class Tally:
    """Weighted sums and greatest values by name, kept on the device in float64 until `metrics` is called."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._greatest: dict[str, torch.Tensor] = {}
        self._counts: dict[str, torch.Tensor] = {}

    def mean(self, name: str, values: torch.Tensor, weights: torch.Tensor | None = None) -> None:
        """Add values [N] to the mean called `name`, each counting `weights` [N] times (default: once)."""
        values = values.detach().double()
        if weights is None:
            total, count = values.sum(), torch.full((), float(values.numel()), dtype=torch.float64)
        else:
            weights = weights.double()
            total, count = (weights * values).sum(), weights.sum()
        self._sums[name] = self._sums.get(name, 0.0) + total
        self._counts[name] = self._counts.get(name, 0.0) + count.to(total.device)

    def greatest(self, name: str, values: torch.Tensor) -> None:
        """Note the greatest of `values` [N] under `greatest_` + name; nothing when N = 0."""
        if values.numel() == 0:
            return
        value = values.detach().max().double()
        known = self._greatest.get(GREATEST + name)
        self._greatest[GREATEST + name] = value if known is None else torch.maximum(known, value)

    def metrics(self) -> dict[str, Metric]:
        """Everything gathered so far, in one transfer from the device."""
        if not self._sums and not self._greatest:
            return {}
        tensors = [*self._sums.values(), *self._counts.values(), *self._greatest.values()]
        values = torch.stack(tensors).tolist()
        means = len(self._sums)
        gathered = {name: Metric(values[index], values[means + index]) for index, name in enumerate(self._sums)}
        return gathered | {
            name: Metric(value, 1.0) for name, value in zip(self._greatest, values[2 * means :], strict=True)
        }
