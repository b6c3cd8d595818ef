"""Keys and values of what has been computed: prefixes once per tree, and each live row's own continuation.

Shapes: B rows, K key-value heads, R queries per key-value head, n new tokens per row, P prefix tokens, L own tokens,
D width of keys, Dv of values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from laurel.tree import IntArray

_FIRST_CAPACITY = 64

flash_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
"""Attention of [N, K, Q, D] to [N, K, P, D], and the logsumexp of its scores [N, K, Q]."""


@dataclass
class PrefixBlock:
    """Prompts that were computed together, padded to the longest of them.

    Attributes:
        lengths: [N] tokens of each prompt.
        keys, values: per layer [N, K, P, D] and [N, K, P, Dv]; what lies past a prompt's length is never attended to.
    """

    lengths: IntArray
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)

    def keep(self, nodes: IntArray) -> None:
        """Forget all prompts but these."""
        self.lengths = self.lengths[nodes]
        for store in (self.keys, self.values):
            for layer, tensor in store.items():
                store[layer] = tensor[torch.from_numpy(nodes).to(tensor.device)]


class RowCache:
    """Keys and values of the rows' own tokens, in slots that grow, move and are reused.

    Per layer [slots, K, capacity, D]. The first tokens of a slot may be a copy of a prefix too short to be worth
    sharing. Slots `0 .. live-1` are in use.
    """

    def __init__(self, slots: int, capacity: int = _FIRST_CAPACITY) -> None:
        self.slots = slots
        self.capacity = capacity
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self._cleared = 0

    def layer(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The storage of one layer, made at its first use to fit what arrives ([..., K, n, D] and [..., K, n, Dv])."""
        if layer not in self.keys:
            for store, like in ((self.keys, key), (self.values, value)):
                shape = (self.slots, like.shape[-3], self.capacity, like.shape[-1])
                store[layer] = torch.empty(shape, dtype=like.dtype, device=like.device)
                store[layer][: self._cleared] = 0
        return self.keys[layer], self.values[layer]

    def reserve(self, tokens: int, used: int, live: int) -> None:
        """Make room for `tokens` per slot; the first `used` tokens of the first `live` slots survive."""
        if tokens <= self.capacity:
            return
        self.capacity = max(tokens, 2 * self.capacity)
        for store in (self.keys, self.values):
            for layer, old in store.items():
                store[layer] = old.new_empty((old.shape[0], old.shape[1], self.capacity, old.shape[3]))
                store[layer][:live, :, :used] = old[:live, :, :used]
                store[layer][:live, :, used:] = 0
        self._cleared = live

    def clear(self, live: int) -> None:
        """Fill slots up to `live` with zeros when they are used for the first time.

        A masked place has weight zero, and zero times what memory happens to hold may be no number. Doing it here
        rather than for all slots at once saves touching memory that is never used.
        """
        for store in (self.keys, self.values):
            for tensor in store.values():
                tensor[self._cleared : live] = 0
        self._cleared = max(self._cleared, live)

    def write_same(self, layer: int, at: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Put one token of every live row ([B, K, 1, D], [B, K, 1, Dv]) at the same place of its slot."""
        for store, new in zip(self.layer(layer, key, value), (key, value), strict=True):
            store[: new.shape[0], :, at] = new[:, :, 0]

    def write(self, layer: int, slots: torch.Tensor, at: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Put T tokens ([T, K, D], [T, K, Dv]) at places `at` [T] of `slots` [T]."""
        shaped = key.unsqueeze(2), value.unsqueeze(2)
        for store, new in zip(self.layer(layer, *shaped), (key, value), strict=True):
            store[slots, :, at] = new

    def move(self, sources: IntArray, targets: IntArray, used: int) -> None:
        """Copy whole slots, of which `used` tokens matter."""
        for store in (self.keys, self.values):
            for tensor in store.values():
                for source, target in zip(sources.tolist(), targets.tolist(), strict=True):
                    tensor[target, :, :used] = tensor[source, :, :used]

    def copy_prefix(self, block: PrefixBlock, node: int, slots: slice) -> None:
        """Start slots with a copy of a short prefix."""
        length = int(block.lengths[node])
        for layer, key in block.keys.items():
            value = block.values[layer]
            own_key, own_value = self.layer(layer, key, value)
            own_key[slots, :, :length] = key[node, :, :length]
            own_value[slots, :, :length] = value[node, :, :length]


@dataclass(frozen=True)
class PrefixGroup:
    """The rows of a step that continue the prompts of one block, as a padded grid [prompts, rows of a prompt].

    Attributes:
        block: where the keys and values are.
        first, last: the range of the block's prompts that have rows here.
        grid: [prompts * width] row of each cell; cells beyond a prompt's rows repeat some row and are ignored.
            None: the rows stand in grid order already, and there are no others.
        cells: [rows] the cell of each row in `rows`; None as above.
        rows: [rows] the rows that this group serves; None: all, in order.
        width: cells per prompt.
        length: of the longest prompt in the range.
        absent: [rows] bool, rows that stand here only to keep the shape: they continue no prompt, their cell is
            another row's, and nothing is mixed into them.
    """

    block: PrefixBlock
    first: int
    last: int
    grid: torch.Tensor | None
    cells: torch.Tensor | None
    rows: torch.Tensor | None
    width: int
    length: int
    absent: torch.Tensor | None = None

    @classmethod
    def of(cls, block: PrefixBlock, nodes: IntArray, rows: IntArray, total: int, device: torch.device) -> PrefixGroup:
        """Group `rows` (of `total`), whose prompts in the block are `nodes`."""
        first, last = int(nodes.min()), int(nodes.max()) + 1
        order = np.argsort(nodes, kind="stable")
        counts = np.bincount(nodes - first, minlength=last - first)
        width = int(counts.max())
        rank = np.arange(len(nodes)) - np.repeat(np.cumsum(counts) - counts, counts)
        cells = np.empty(len(nodes), np.int64)
        cells[order] = (nodes[order] - first) * width + rank
        length = int(block.lengths[first:last].max())
        if len(cells) == total == width * (last - first) and np.array_equal(cells, np.arange(total)):
            return cls(block, first, last, None, None, None, width, length)
        grid = np.full(width * (last - first), rows[0])
        grid[cells] = rows
        place = [torch.from_numpy(array).to(device) for array in (grid, cells, rows)]
        return cls(block, first, last, place[0], place[1], None if len(rows) == total else place[2], width, length)

    @cached_property
    def even(self) -> bool:
        """Whether all prompts in the range have the same length, so that nothing of it is padding."""
        return bool((self.block.lengths[self.first : self.last] == self.length).all())

    def attend(self, layer: int, query: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        """What the rows' queries [B, K, Q, D] gather from their prefixes, [rows, K, Q, D], and the logsumexp of the
        scores [rows, K, Q, 1]. On the CPU only, where prompts are `even`."""
        chosen = slice(self.first, self.last), slice(None), slice(0, self.length)
        keys, values = self.block.keys[layer][chosen], self.block.values[layer][chosen]
        grid = self._to_grid(query).view(len(keys), keys.shape[1], -1, query.shape[-1])
        mixed, log_sum = flash_attention(grid, keys, values, 0.0, False, scale=scale)
        parts = mixed, log_sum.unsqueeze(-1)
        by_row, sums = (self._from_grid(part.flatten(0, 1), query.shape[1], query.shape[2]) for part in parts)
        return by_row, sums

    def scores(self, layer: int, query: torch.Tensor, scale: float) -> torch.Tensor:
        """[rows, K, Q, P] scaled dot products of the rows' queries [B, K, Q, D] with their prefixes."""
        keys = self.block.keys[layer][self.first : self.last, :, : self.length].flatten(0, 1)
        grouped = torch.bmm(self._to_grid(query) * scale, keys.transpose(1, 2))
        return self._from_grid(grouped, query.shape[1], query.shape[2])

    def mix(self, layer: int, weights: torch.Tensor) -> torch.Tensor:
        """[rows, K, Q, Dv] sums of prefix values, from weights [B, K, Q, P]."""
        values = self.block.values[layer][self.first : self.last, :, : self.length].flatten(0, 1)
        mixed = self._from_grid(torch.bmm(self._to_grid(weights), values), weights.shape[1], weights.shape[2])
        return mixed if self.absent is None else mixed.masked_fill(self.absent[:, None, None, None], 0)

    def _to_grid(self, rows: torch.Tensor) -> torch.Tensor:
        """[B, K, Q, X] by row to [prompts * K, width * Q, X]."""
        chosen = rows if self.grid is None else rows[self.grid]
        _, heads, queries, size = rows.shape
        grid = chosen.view(-1, self.width, heads, queries, size).transpose(1, 2)
        return grid.reshape(-1, self.width * queries, size)

    def _from_grid(self, grid: torch.Tensor, heads: int, queries: int) -> torch.Tensor:
        """[prompts * K, width * Q, X] back to [rows, K, Q, X]."""
        rows = grid.view(-1, heads, self.width, queries, grid.shape[-1]).transpose(1, 2).flatten(0, 1)
        return rows if self.cells is None else rows[self.cells]
