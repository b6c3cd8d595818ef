"""Attention over packed trees: every token attends to itself and its ancestors."""

from __future__ import annotations

from torch import Tensor

from laurel.policy.attention import LayerCall
from laurel.policy.dense_attention import masked_attention, visible
from laurel.policy.packed import Packed, TreeLayout


class TreeAttention:
    """The attention plan of one packed row of trees; good for one forward pass and its backward pass."""

    def __init__(self, layout: TreeLayout, positions: Tensor) -> None:
        self.layout = layout
        self.positions = positions
        self._masks: dict[int | None, Tensor] = {}

    @classmethod
    def of(cls, packed: Packed) -> TreeAttention:
        return cls(packed.layout, packed.positions)

    def attend(self, call: LayerCall) -> Tensor:
        """See `AttentionPlan`: [1, T, H, Dv]."""
        window = call.window if call.window is not None and call.window < self.layout.longest_path else None
        if window not in self._masks:
            self._masks[window] = visible(self.layout, self.positions, window)
        return masked_attention(call, self._masks[window])
