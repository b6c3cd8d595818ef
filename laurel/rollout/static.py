"""A decode step in fixed shapes, so that a GPU can replay it as one graph; the same step runs on the CPU for tests.

Everything that changes between steps lives in buffers that keep their address: the rows' numbers, the caches, the
arena of prefixes. Masks take the place of slicing: rows that are not in use compute something harmless, and places past
a row's length are never attended to. Weights are updated in place, so a captured graph stays valid for a whole run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
import torch

from laurel.policy import Policy
from laurel.rollout.cache import PrefixBlock, PrefixGroup, RowCache
from laurel.rollout.distribution import Drawn, draw
from laurel.rollout.draws import torch_uniforms
from laurel.rollout.plans import DecodePlan, Places, RowAttention
from laurel.rollout.rows import Rows
from laurel.tree import IntArray, Sampling

_STATE = ("pending", "path", "own", "prefix", "key")
_UNUSED = np.array([[0], [1], [0], [0], [0]])
_PREFIX_MULTIPLE = 64


@dataclass(frozen=True)
class StaticShapes:
    """What a graph is captured for.

    Attributes:
        rows: rows that may live at once.
        prompts: shared prefixes that may be held at once.
        width: rows that may continue one prefix.
        prefix: tokens of the longest shared prefix (0: none is shared).
    """

    rows: int
    prompts: int
    width: int
    prefix: int

    @classmethod
    def of(cls, rows: int, lengths: IntArray, samples: IntArray) -> StaticShapes:
        """Shapes for shared prefixes of these lengths with so many rollouts each."""
        if not len(lengths):
            return cls(rows, 0, 0, 0)
        longest = -(-int(lengths.max()) // _PREFIX_MULTIPLE) * _PREFIX_MULTIPLE
        return cls(rows, min(rows, len(lengths)), min(rows, int(samples.max())), longest)

    def cover(self, other: StaticShapes) -> StaticShapes:
        """The smallest shapes that are enough for both; after some steps a run's shapes do not change any more."""
        return StaticShapes(*(max(pair) for pair in zip(astuple(self), astuple(other), strict=True)))


class Arena(PrefixBlock):
    """A block of prefixes with fixed storage, whose places are taken and given back."""

    def __init__(self, shapes: StaticShapes) -> None:
        super().__init__(np.zeros(shapes.prompts, np.int64))
        self._prefix = shapes.prefix
        self._free = list(range(shapes.prompts - 1, -1, -1))

    @property
    def room(self) -> int:
        """How many more prefixes there is room for."""
        return len(self._free)

    def take(self, block: PrefixBlock, node: int) -> int:
        """Copy one prefix in; returns its place."""
        place = self._free.pop()
        length = int(block.lengths[node])
        self.lengths[place] = length
        for own, other in ((self.keys, block.keys), (self.values, block.values)):
            for layer, tensor in other.items():
                if layer not in own:
                    shape = (len(self.lengths), tensor.shape[1], self._prefix, tensor.shape[3])
                    own[layer] = tensor.new_zeros(shape)
                own[layer][place, :, :length] = tensor[node, :, :length]
        return place

    def give_back(self, place: int) -> None:
        """Free a place; what is stored there stays until it is overwritten."""
        self._free.append(place)

    def clear(self) -> None:
        """Free all places."""
        self._free = list(range(len(self.lengths) - 1, -1, -1))


class StaticStep:
    """One decode step for up to `shapes.rows` rows; on CUDA captured at its first run and when the cache has grown."""

    def __init__(self, policy: Policy, sampling: Sampling, shapes: StaticShapes) -> None:
        self.shapes = shapes
        self.cache = RowCache(shapes.rows)
        self.arena = Arena(shapes)
        self._policy = policy
        self._sampling = sampling
        device = policy.device
        self._state = torch.zeros((len(_STATE), shapes.rows), dtype=torch.int64, device=device)
        self._grid = torch.zeros(shapes.prompts * shapes.width, dtype=torch.int64, device=device)
        self._cells = torch.zeros(shapes.rows, dtype=torch.int64, device=device)
        self._step: Callable[[], Drawn] = self._compute
        self._captured: tuple[int, bool] | None = None

    def place_rows(self, rows: Rows) -> None:
        """Tell which rows continue which prefix; needed after rows came, went or moved."""
        members = np.flatnonzero(rows.block[: rows.live] >= 0)
        if not len(members):
            return
        nodes = rows.node[members]
        order = np.argsort(nodes, kind="stable")
        counts = np.bincount(nodes, minlength=self.shapes.prompts)
        rank = np.arange(len(nodes)) - np.repeat(np.cumsum(counts) - counts, counts)
        cells = np.empty_like(nodes)
        cells[order] = nodes[order] * self.shapes.width + rank
        grid, of_row = np.zeros(len(self._grid), np.int64), np.zeros(self.shapes.rows, np.int64)
        grid[cells] = members
        of_row[members] = cells
        self._grid.copy_(torch.from_numpy(grid))
        self._cells.copy_(torch.from_numpy(of_row))

    def run(self, rows: Rows) -> Drawn:
        """Compute the pending tokens of all rows and draw the next ones; entries past the live rows mean nothing."""
        state = np.stack([getattr(rows, name) for name in _STATE])
        state[:, rows.live :] = _UNUSED
        self._state.copy_(torch.from_numpy(state))
        storage = (self.cache.capacity, bool(self.arena.keys))
        if self._state.device.type == "cuda" and self._captured != storage:
            self._step = captured(self._compute)
            self._captured = storage
        return self._step()

    def _compute(self) -> Drawn:
        pending, path, own, prefix, key = self._state
        shapes = self.shapes
        groups = []
        if self.arena.keys:  # empty until a prefix is shared
            grid = (self._grid, self._cells, None, shapes.width, shapes.prefix)
            groups = [PrefixGroup(self.arena, 0, shapes.prompts, *grid, absent=prefix == 0)]
        places = Places(prefix, shapes.prefix if groups else 0, self.cache.capacity, path[:, None] - 1)
        plan = DecodePlan(self.cache, RowAttention(groups, places, uniform=False), own, None)
        hidden = self._policy.hidden_states(pending[:, None], path[:, None] - 1, plan)
        return draw(self._policy.logits(hidden[:, 0]), self._sampling, torch_uniforms(key, path))


def captured(step: Callable[[], Drawn]) -> Callable[[], Drawn]:
    """Record `step` as a CUDA graph; the result replays it and returns the same, overwritten tensors each time.

    `step` may run any number of times without changing its result: it writes each key and value to the same place.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # lazy initialisation inside the libraries must not be recorded
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        drawn = step()

    def replay() -> Drawn:
        graph.replay()
        return drawn

    return replay
