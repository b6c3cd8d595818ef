"""The forward passes of sampling: prompts, single tokens, observations; and the draw that follows each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from laurel.errors import SamplingError
from laurel.policy import Policy
from laurel.rollout.cache import PrefixBlock, PrefixGroup, RowCache
from laurel.rollout.distribution import Drawn, draw
from laurel.rollout.draws import uniforms
from laurel.rollout.paths import PathPlan, path_plan, path_row
from laurel.rollout.plans import DecodePlan, ExtendPlan, Places, PromptPlan, RowAttention, prompt_plan
from laurel.rollout.rows import Rows
from laurel.rollout.static import StaticStep
from laurel.tree import Float32Array, IntArray, Sampling, Tree

# A prefix up to this long is copied into its rows: one attention over rows is then cheaper than two. Measured on the
# CPU (4 layers, 4 heads of 64, 64 to 128 rows): copying saves 8 % at 12 tokens while rows come and go, and loses at 30.
COPIED_PREFIX_TOKENS = 16

_ARENA = 0  # the block that a static step reads


@dataclass(eq=False)
class Prompted:
    """A prompt that has been computed: its home in the blocks (which may move), and the logits [V] after it."""

    block: int
    node: int
    length: int
    logits: torch.Tensor


@dataclass(frozen=True)
class Draws:
    """What one step drew for some rows; `counts` and `kept` are the ragged supports where sampling truncates."""

    tokens: IntArray
    log_probs: Float32Array
    counts: IntArray | None
    kept: IntArray | None


class Engine:
    """Runs a policy's own parameters over rows and their caches."""

    def __init__(self, policy: Policy, sampling: Sampling, rows: Rows, static: StaticStep | None = None) -> None:
        self.policy = policy
        self.sampling = sampling
        self.rows = rows
        self.static = static
        self.cache = RowCache(rows.slots) if static is None else static.cache
        self.blocks: dict[int, PrefixBlock] = {} if static is None else {_ARENA: static.arena}
        self._homes: dict[int, list[Prompted]] = {}
        self._groups: list[PrefixGroup] | None = None
        self._made = _ARENA + 1

    @property
    def prompt_room(self) -> int | None:
        """How many more prompts can be held; None: any number."""
        return None if self.static is None else self.static.arena.room

    def compute_prompts(self, prompts: Sequence[IntArray]) -> list[Prompted]:
        """One packed forward pass over whole prompts."""
        lengths = np.array([len(prompt) for prompt in prompts])
        plan, homes = prompt_plan(lengths, self.policy.device)
        tokens = self._tensor(np.concatenate(prompts))
        positions = self._tensor(np.concatenate([np.arange(length) for length in lengths]))
        last = self._tensor(np.cumsum(lengths) - 1)
        return self._kept(plan, homes, self.policy.hidden_states(tokens, positions, plan, last))

    def compute_paths(self, paths: Sequence[tuple[Tree, int]]) -> list[Prompted]:
        """One packed forward pass over the paths to the ends of some segments; what they share is computed once."""
        row = path_row(paths)
        plan, homes = path_plan(row, self.policy.device)
        tokens, positions = self._tensor(row.tokens), self._tensor(row.positions)
        last = self._tensor(np.array([path[-1] for path in row.paths]))
        return self._kept(plan, homes, self.policy.hidden_states(tokens, positions, plan, last))

    def _kept(
        self, plan: PromptPlan | PathPlan, homes: Sequence[tuple[int, int]], hidden: torch.Tensor
    ) -> list[Prompted]:
        """What a plan has put in its blocks; `hidden` [N, D] are the states of the last tokens."""
        logits = self.policy.logits(hidden)
        first = self._made
        self._made += len(plan.blocks)
        self.blocks.update({first + index: block for index, block in enumerate(plan.blocks)})
        prompted = [
            Prompted(first + block, node, int(plan.blocks[block].lengths[node]), logits[index])
            for index, (block, node) in enumerate(homes)
        ]
        for each in prompted:
            self._homes.setdefault(each.block, []).append(each)
        if self.static is not None:
            self._move_to_arena(prompted, self.static)
        return prompted

    def admit(self, prompt: Prompted, count: int) -> IntArray:
        """Take `count` free slots for rows that continue a prompt; returns them."""
        rows = self.rows
        slots = slice(rows.live, rows.live + count)
        rows.live += count
        copied = prompt.length <= COPIED_PREFIX_TOKENS
        rows.path[slots] = prompt.length
        rows.prefix[slots] = 0 if copied else prompt.length
        rows.own[slots] = prompt.length if copied else 0
        rows.block[slots] = -1 if copied else prompt.block
        rows.node[slots] = prompt.node
        self.cache.reserve(prompt.length if copied else 0, int(rows.own[: slots.start].max(initial=0)), slots.start)
        self.cache.clear(rows.live)
        if copied:
            self.cache.copy_prefix(self.blocks[prompt.block], prompt.node, slots)
        self._groups = None
        return np.arange(slots.start, slots.stop)

    def step(self) -> Draws:
        """Compute the pending token of every live row, and draw the next one."""
        rows, live = self.rows, self.rows.live
        longest = int(rows.own[:live].max())
        self.cache.reserve(longest + 1, longest, live)
        if self.static is None:
            return self.draw(self._decode(longest), np.arange(live))
        if self._groups is None:
            self.static.place_rows(rows)
            self._groups = []
        drawn = self.static.run(rows)
        rows.own[:live] += 1
        kept = None if drawn.kept is None else drawn.kept[:live]
        return _checked(Drawn(drawn.tokens[:live], drawn.log_probs[:live], kept))

    def _decode(self, longest: int) -> torch.Tensor:
        """The logits [B, V] after the pending tokens."""
        rows, live = self.rows, self.rows.live
        own = rows.own[:live]
        shortest = int(own.min())
        positions = self._tensor(rows.path[:live, None] - 1)
        attention = self._attention(np.arange(live), positions, longest + 1, same=longest == shortest)
        plan = DecodePlan(self.cache, attention, self._tensor(own), longest if longest == shortest else None)
        hidden = self.policy.hidden_states(self._tensor(rows.pending[:live, None]), positions, plan)
        rows.own[:live] += 1
        return self.policy.logits(hidden[:, 0])

    def extend(self, slots: IntArray, texts: Sequence[IntArray]) -> torch.Tensor:
        """Compute the pending token and then `texts` on some rows; returns the logits [E, V] after the last token."""
        rows = self.rows
        tokens = [np.concatenate([rows.pending[[slot]], text]) for slot, text in zip(slots, texts, strict=True)]
        counts = np.array([len(part) for part in tokens])
        own = rows.own[slots]
        self.cache.reserve(int((own + counts).max()), int(rows.own[: rows.live].max()), rows.live)
        ends = np.cumsum(counts)
        within = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
        start = rows.path[slots] - 1
        steps = np.minimum(np.arange(counts.max()), counts[:, None] - 1)
        attention = self._attention(slots, self._tensor(start[:, None] + steps), int((own + counts).max()), same=False)
        plan = ExtendPlan(
            self.cache,
            attention,
            self._tensor(slots),
            self._tensor(np.repeat(slots, counts)),
            self._tensor(np.repeat(own, counts) + within),
            self._tensor((ends - counts)[:, None] + steps),
            self._tensor(np.repeat(np.arange(len(slots)), counts) * int(counts.max()) + within),
        )
        positions = self._tensor(np.repeat(start, counts) + within)
        hidden = self.policy.hidden_states(self._tensor(np.concatenate(tokens)), positions, plan)
        rows.own[slots] += counts
        rows.path[slots] += counts - 1
        return self.policy.logits(hidden[self._tensor(ends - 1)])

    def draw(self, logits: torch.Tensor, slots: IntArray) -> Draws:
        """Draw the next token of some rows from their logits [B, V]."""
        numbers = uniforms(self.rows.key[slots], self.rows.path[slots])
        drawn = draw(logits, self.sampling, torch.from_numpy(numbers).to(logits.device))
        return _checked(drawn)

    def release(self, slots: IntArray) -> None:
        """Give the slots of finished rows back."""
        used = int(self.rows.own[: self.rows.live].max())
        self.cache.move(*self.rows.release(slots), used)
        self._groups = None

    def forget(self, prompt: Prompted) -> None:
        """Drop a prompt that no row needs any more; its storage goes once half of its block is unused."""
        staying = self._homes[prompt.block]
        staying.remove(prompt)
        if self.static is not None and prompt.block == _ARENA:
            self.static.arena.give_back(prompt.node)
            return
        if not staying:
            del self.blocks[prompt.block], self._homes[prompt.block]
        elif 2 * len(staying) <= len(self.blocks[prompt.block].lengths):
            staying.sort(key=lambda each: each.node)
            nodes = np.array([each.node for each in staying])
            self.blocks[prompt.block].keep(nodes)
            moved = self.rows.block == prompt.block
            self.rows.node[moved] = np.searchsorted(nodes, self.rows.node[moved])
            for node, each in enumerate(staying):
                each.node = node

    def _move_to_arena(self, prompts: Sequence[Prompted], static: StaticStep) -> None:
        """Put prefixes that are shared where a captured step looks for them."""
        for prompt in prompts:
            if prompt.length <= COPIED_PREFIX_TOKENS:
                continue
            before = prompt.block
            prompt.block, prompt.node = _ARENA, static.arena.take(self.blocks[before], prompt.node)
            self._homes[before].remove(prompt)
            self._homes.setdefault(_ARENA, []).append(prompt)
            if not self._homes[before]:
                del self.blocks[before], self._homes[before]

    def _attention(self, slots: IntArray, queries: torch.Tensor, own: int, *, same: bool) -> RowAttention:
        """What `slots` see; the grouping of all live rows is kept until the rows change."""
        everyone = self.static is None and len(slots) == self.rows.live and queries.shape[1] == 1
        groups = self._groups if everyone and self._groups is not None else self._grouped(slots)
        if everyone:
            self._groups = groups
        prefix = self.rows.prefix[slots]
        shared = max((group.length for group in groups), default=0)
        uniform = same and int(prefix.min()) == shared
        return RowAttention(groups, Places(self._tensor(prefix), shared, own, queries), uniform)

    def _grouped(self, slots: IntArray) -> list[PrefixGroup]:
        blocks, nodes = self.rows.block[slots], self.rows.node[slots]
        groups = []
        for block in np.unique(blocks[blocks >= 0]).tolist():
            members = np.flatnonzero(blocks == block)
            groups.append(PrefixGroup.of(self.blocks[block], nodes[members], members, len(slots), self.policy.device))
        return groups

    def _tensor(self, array: IntArray) -> torch.Tensor:
        # A copy on the CPU too: the arrays go on changing while tensors made of them are in use.
        return torch.tensor(array, device=self.policy.device)


def _checked(drawn: Drawn) -> Draws:
    """Bring what was drawn to the host."""
    tokens, log_probs = drawn.tokens.cpu().numpy(), drawn.log_probs.cpu().numpy()
    if not np.isfinite(log_probs).all():
        raise SamplingError(
            "The model's logits are not finite, so nothing can be drawn.",
            hint="load the last good checkpoint, and lower the learning rate.",
        )
    if drawn.kept is None:
        return Draws(tokens, log_probs, None, None)
    return Draws(tokens, log_probs, drawn.kept.sum(dim=1).cpu().numpy(), drawn.kept.nonzero()[:, 1].cpu().numpy())
