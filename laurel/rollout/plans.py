"""What the tokens of one forward pass attend to while sampling: prompts, single new tokens, or whole observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from laurel.policy.attention import LayerCall
from laurel.rollout.cache import PrefixBlock, PrefixGroup, RowCache, flash_attention
from laurel.tree import IntArray


@dataclass(frozen=True)
class Places:
    """Where the keys that rows may see stand on their paths: first P prefix places, then L own ones.

    Attributes:
        prefix: [B] tokens of the shared prefix (0 where it was copied into the row).
        shared: P, the longest shared prefix.
        own: L, own tokens of the longest row, the new ones included.
        queries: [B, n] path position of each query.
    """

    prefix: torch.Tensor
    shared: int
    own: int
    queries: torch.Tensor

    def visible(self, window: int | None) -> torch.Tensor:
        """[B, n, P + L] whether each query may attend to each key."""
        device = self.prefix.device
        prefix = self.prefix[:, None]
        shared = torch.arange(self.shared, device=device).expand(len(self.prefix), -1)
        own = torch.arange(self.own, device=device) + prefix
        position = torch.cat([torch.where(shared < prefix, shared, torch.iinfo(torch.int64).max), own], dim=1)
        position, query = position[:, None, :], self.queries[:, :, None]
        seen = position <= query
        return seen if window is None else seen & (position > query - window)


@dataclass
class RowAttention:
    """Attention of n queries per row to the row's shared prefix and to its own tokens.

    softmax runs over both parts at once: their scores stand side by side.

    Attributes:
        groups: which rows share which prefixes.
        places: positions of keys and queries.
        uniform: whether every query sees every key as long as no window is in the way.
    """

    groups: Sequence[PrefixGroup]
    places: Places
    uniform: bool
    _masks: dict[int | None, torch.Tensor | None] = field(default_factory=dict)

    def attend(self, call: LayerCall, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """[B, H, n, Dv] from queries [B, H, n, D] and own keys [B, K, L, D] and values [B, K, L, Dv]."""
        if self._merges(call, new=query.shape[2]):
            return self._merged(call, query, key, value)
        rows, heads, new, width = query.shape
        shared, own = self.places.shared, self.places.own
        grouped = query.reshape(rows, key.shape[1], -1, width)
        flat = grouped.flatten(0, 1) * call.scale
        scores = torch.bmm(flat, key.flatten(0, 1).transpose(1, 2)).view(rows, key.shape[1], -1, own)
        if shared:
            scores = torch.cat([self._prefix_scores(call, grouped), scores], dim=-1)
        if call.softcap is not None:
            scores = call.softcap * torch.tanh(scores / call.softcap)
        mask = self._mask(call.window, new)
        if mask is not None:
            scores = (scores.view(rows, heads, new, -1) + mask).view_as(scores)
        exact = torch.promote_types(scores.dtype, torch.float32)
        weights = torch.softmax(scores, dim=-1, dtype=exact).to(value.dtype)
        mixed = torch.bmm(weights[..., shared:].flatten(0, 1), value.flatten(0, 1)).view(*grouped.shape[:3], -1)
        for group in self.groups:
            part = group.mix(call.layer, weights[..., : group.length])
            if group.rows is None:
                mixed += part
            else:
                mixed.index_add_(0, group.rows, part)
        return mixed.view(rows, heads, new, -1)

    def _merges(self, call: LayerCall, new: int) -> bool:
        """Whether prefixes and own tokens are attended to by one flash kernel each: on the CPU, nothing masked."""
        return (
            bool(self.groups)
            and new == 1
            and call.query.device.type == "cpu"
            and call.query.shape[-1] == call.value.shape[-1]
            and call.softcap is None
            and all(group.even and group.absent is None for group in self.groups)
            and self._mask(call.window, new) is None
        )

    def _merged(self, call: LayerCall, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """As `attend`: with o_i and l_i the output and logsumexp of each part, o = sum_i exp(l_i - logsumexp l) o_i."""
        rows, heads, new, width = query.shape
        grouped = query.reshape(rows, key.shape[1], -1, width)
        mixed, log_sum = flash_attention(grouped, key, value, 0.0, False, scale=call.scale)
        log_sum = log_sum.unsqueeze(-1)
        for group in self.groups:
            part, part_sum = group.attend(call.layer, grouped, call.scale)
            if group.rows is None:
                mixed.lerp_(part, torch.sigmoid(part_sum - log_sum).to(part.dtype))
            else:
                weight = torch.sigmoid(part_sum - log_sum[group.rows]).to(part.dtype)
                mixed[group.rows] = mixed[group.rows].lerp(part, weight)
        attended: torch.Tensor = mixed.reshape(rows, heads, new, -1)
        return attended

    def _prefix_scores(self, call: LayerCall, query: torch.Tensor) -> torch.Tensor:
        if len(self.groups) == 1 and self.groups[0].rows is None:
            return self.groups[0].scores(call.layer, query, call.scale)
        scores = query.new_zeros((*query.shape[:3], self.places.shared))
        for group in self.groups:
            part = group.scores(call.layer, query, call.scale)
            if group.rows is None:
                scores[..., : group.length] = part
            else:
                scores[group.rows, :, :, : group.length] = part
        return scores

    def _mask(self, window: int | None, new: int) -> torch.Tensor | None:
        """[B, 1, n, P + L] additive, or None where everything is visible; one per kind of layer."""
        if window not in self._masks:
            if self.uniform and (window is None or int(self.places.queries.max()) < window):
                self._masks[window] = None
            else:
                seen = self.places.visible(window)
                blocked = torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, -torch.inf)
                self._masks[window] = blocked[:, None]
        return self._masks[window]


@dataclass(frozen=True)
class DecodePlan:
    """One new token for each of the B live rows; inputs have shape [B, 1].

    Attributes:
        cache: where the rows' own keys and values are, slot = row.
        attention: what they see.
        lengths: [B] own tokens before this one.
        same_length: the common value of `lengths`, if there is one.
    """

    cache: RowCache
    attention: RowAttention
    lengths: torch.Tensor
    same_length: int | None

    def attend(self, call: LayerCall) -> torch.Tensor:
        """See `AttentionPlan`: [B, 1, H, Dv]; the keys and values of the new tokens go to the cache."""
        rows = call.query.shape[0]
        if self.same_length is None:
            slots = torch.arange(rows, device=call.key.device)
            self.cache.write(call.layer, slots, self.lengths, call.key[:, :, 0], call.value[:, :, 0])
        else:
            self.cache.write_same(call.layer, self.same_length, call.key, call.value)
        key, value = self.cache.layer(call.layer, call.key, call.value)
        own = self.attention.places.own
        mixed = self.attention.attend(call, call.query, key[:rows, :, :own], value[:rows, :, :own])
        return mixed.transpose(1, 2)


@dataclass(frozen=True)
class ExtendPlan:
    """Several new tokens for each of E rows, packed one row after the other; inputs have shape [T].

    Attributes:
        cache: where the rows' own keys and values are.
        attention: what they see, on the E rows padded to n tokens.
        slots: [E] slot of each row.
        token_slots, token_places: [T] slot of each token and its place there.
        padded: [E, n] packed index of each token; past a row's end its last one, again.
        packed: [T] index of each token in the padded grid.
    """

    cache: RowCache
    attention: RowAttention
    slots: torch.Tensor
    token_slots: torch.Tensor
    token_places: torch.Tensor
    padded: torch.Tensor
    packed: torch.Tensor

    def attend(self, call: LayerCall) -> torch.Tensor:
        """See `AttentionPlan`: [1, T, H, Dv]; the keys and values of the new tokens go to the cache."""
        key, value = call.key[0].transpose(0, 1), call.value[0].transpose(0, 1)
        self.cache.write(call.layer, self.token_slots, self.token_places, key, value)
        stored_key, stored_value = self.cache.layer(call.layer, call.key, call.value)
        own = self.attention.places.own
        query = call.query[0][:, self.padded].transpose(0, 1)
        mixed = self.attention.attend(call, query, stored_key[self.slots, :, :own], stored_value[self.slots, :, :own])
        return mixed.transpose(1, 2).flatten(0, 1)[self.packed][None]


@dataclass(frozen=True)
class PromptPlan:
    """Whole prompts, packed one after the other in one row [T]; keys and values are kept in the blocks.

    Attributes:
        blocks: prompts of similar length each.
        padded: per block [N, P] packed index of each token; past a prompt's end token 0, which nothing attends to.
        kept: per block [N * P] bool, which cells are real, and their packed index.
    """

    blocks: Sequence[PrefixBlock]
    padded: Sequence[torch.Tensor]
    kept: Sequence[tuple[torch.Tensor, torch.Tensor]]

    def attend(self, call: LayerCall) -> torch.Tensor:
        """See `AttentionPlan`: [1, T, H, Dv]; the keys and values of the call go to the blocks."""
        mixed = call.query.new_empty((call.query.shape[2], call.query.shape[1], call.value.shape[-1]))
        for block, padded, (cells, packed) in zip(self.blocks, self.padded, self.kept, strict=True):
            query, key, value = (part[0][:, padded].transpose(0, 1) for part in (call.query, call.key, call.value))
            block.keys[call.layer], block.values[call.layer] = key.contiguous(), value.contiguous()
            mixed[packed] = causal_attention(call, query, key, value).transpose(1, 2).flatten(0, 1)[cells]
        return mixed[None]


def causal_attention(call: LayerCall, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """[N, H, P, Dv]: each token attends to itself and those before it, within the layer's window."""
    length = query.shape[2]
    windowed = call.window is not None and call.window < length
    if call.softcap is None and not windowed:
        attended = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=call.scale, enable_gqa=query.shape[1] != key.shape[1]
        )
        return attended
    position = torch.arange(length, device=query.device).expand(query.shape[0], -1)
    start = torch.zeros(query.shape[0], dtype=torch.int64, device=query.device)
    attention = RowAttention((), Places(start, 0, length, position), uniform=False)
    return attention.attend(call, query, key, value)


def prompt_plan(lengths: IntArray, device: torch.device) -> tuple[PromptPlan, list[tuple[int, int]]]:
    """A plan for prompts of these lengths, packed in this order, and the (block, node) where each is kept."""
    starts = np.cumsum(lengths) - lengths
    rows = [np.arange(start, start + length) for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)]
    blocks, indices, homes = padded_blocks(rows)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    for block, index in zip(blocks, indices, strict=True):
        cells = np.flatnonzero(np.arange(index.shape[1]) < block.lengths[:, None])
        kept.append((torch.from_numpy(cells).to(device), torch.from_numpy(index.ravel()[cells]).to(device)))
    return PromptPlan(blocks, [torch.from_numpy(index).to(device) for index in indices], kept), homes


def padded_blocks(rows: Sequence[IntArray]) -> tuple[list[PrefixBlock], list[IntArray], list[tuple[int, int]]]:
    """Put rows of similar length together: their blocks, the index of each cell [N, P] (0 past a row's end), and the
    (block, node) where each row is kept."""
    lengths = np.array([len(row) for row in rows])
    homes: list[tuple[int, int]] = [(0, 0)] * len(rows)
    blocks: list[PrefixBlock] = []
    indices: list[IntArray] = []
    for members in _similar(np.argsort(lengths, kind="stable"), lengths):
        index = np.zeros((len(members), int(lengths[members].max())), np.int64)
        for node, row in enumerate(members.tolist()):
            index[node, : lengths[row]] = rows[row]
            homes[row] = (len(blocks), node)
        blocks.append(PrefixBlock(lengths[members]))
        indices.append(index)
    return blocks, indices, homes


def _similar(order: IntArray, lengths: IntArray) -> list[IntArray]:
    """Cut prompts, sorted by length, where padding to the longest would waste more than it saves in calls."""
    groups: list[list[int]] = []
    for prompt in order.tolist():
        shortest = int(lengths[groups[-1][0]]) if groups else 0
        if groups and lengths[prompt] - shortest <= max(64, shortest // 2):
            groups[-1].append(prompt)
        else:
            groups.append([prompt])
    # Prompts of one block keep the order in which their rows will be admitted.
    return [np.sort(np.array(group, np.int64)) for group in groups]
