"""What an objective over whole rollouts needs of the learner: sums over paths, reference sums that are kept, weights.

The weight of a prompt is the sum of the weights that `Algorithm.reduction` gives its tokens, fixed before any
micro-batch exists. A tree stays whole where it fits in one pass; elsewhere its objective is replaced by the linear one
with the same gradient (`RolloutObjective.slopes`). So no split can change the gradient.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch

from laurel.algorithms import Algorithm, Credit, Sampled
from laurel.errors import LearnerError
from laurel.learner.batching import Microbatch, Piece, TokenTable, microbatches, pieces
from laurel.learner.work import Slopes, Work, on_device, packed_row
from laurel.objectives import ImplicitReward, RolloutBatch, RolloutLoss, TokenBatch, needs_constant, reads_rollouts
from laurel.policy import Packed, Policy, Reference, pack
from laurel.tree import BoolArray, FloatArray, IntArray, Tree

KEPT = "kept_reference."
"""What the names of the kept reference log-probabilities begin with in a checkpoint."""


@dataclass(frozen=True)
class RolloutLayout:
    """Where the rollouts of a micro-batch stand among its N scored tokens; R rollouts below Q prompts.

    Attributes:
        tokens, owners: [M] scored tokens and the rollouts they lie on; a shared token once for each.
        last: [R] the last scored token of each rollout.
        prompts: [R] the piece that each is below.
        prompt_of_token: [N].
        names: [R] digest of what each rollout is scored on: the tokens of its path, and which of them count.
    """

    tokens: IntArray
    owners: IntArray
    last: IntArray
    prompts: IntArray
    prompt_of_token: IntArray
    names: tuple[bytes, ...]

    @classmethod
    def of(cls, parts: Sequence[Piece]) -> RolloutLayout:
        """The layout of whole trees that stand one after the other in a micro-batch."""
        tokens: list[IntArray] = []
        prompts: list[int] = []
        names: list[bytes] = []
        offset = 0
        for number, piece in enumerate(parts):
            flat, place = piece.tree.flat, offset + np.cumsum(piece.mask) - 1
            for leaf in piece.tree.leaves:
                path = np.concatenate([np.arange(flat.starts[s], flat.ends[s]) for s in piece.tree.path(leaf)])
                scored = piece.mask[path]
                tokens.append(place[path[scored]])
                prompts.append(number)
                names.append(hashlib.sha256(flat.tokens[path].tobytes() + scored.tobytes()).digest())
            offset += int(piece.mask.sum())
        return cls(
            tokens=np.concatenate(tokens),
            owners=np.repeat(np.arange(len(tokens)), [len(some) for some in tokens]),
            last=np.array([some[-1] for some in tokens]),
            prompts=np.array(prompts),
            prompt_of_token=np.repeat(np.arange(len(parts)), [int(piece.mask.sum()) for piece in parts]),
            names=tuple(names),
        )

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over each rollout of per-token values [N], in float64, [R]."""
        device = values.device
        picked = values.double()[torch.from_numpy(self.tokens).to(device)]
        zeros = torch.zeros(len(self.last), dtype=torch.float64, device=device)
        return zeros.index_add(0, torch.from_numpy(self.owners).to(device), picked)


@dataclass(frozen=True)
class Judged:
    """What an objective over whole rollouts says of Q prompts, under the policy as it is.

    Attributes:
        by_prompt: [Q] each: "loss", and the diagnostics of the objective by their names.
        rewards: what the objective takes for the reward of each rollout that takes part, by its id.
    """

    by_prompt: Mapping[str, FloatArray]
    rewards: Mapping[str, float]


class RolloutObjective:
    """An objective over whole rollouts at work.

    Reference log-probabilities of answers that somebody else wrote are computed when they are first met and kept for
    the rest of the run (they go into checkpoints): every later epoch over the data costs no pass of the reference.

    Args:
        objective: the loss.
        policy, reference: who is trained, and whom it is compared with, if the objective asks for it.
        keep: whether the same rollouts come back; those that the policy draws do not.
    """

    def __init__(self, objective: RolloutLoss, policy: Policy, reference: Reference | None, *, keep: bool) -> None:
        self.objective = objective
        self._policy = policy
        self._reference = reference if getattr(objective, "needs_reference", False) else None
        self._keep = keep
        self._kept: dict[bytes, float] = {}

    @classmethod
    def of(cls, algorithm: Algorithm, policy: Policy, reference: Reference | None) -> RolloutObjective | None:
        """The objective of an algorithm; None where that is over tokens."""
        if not reads_rollouts(algorithm.objective):
            return None
        return cls(algorithm.objective, policy, reference, keep=not isinstance(algorithm.source, Sampled))

    def loss_mask(self, credit: Credit) -> BoolArray:
        """[T] the tokens that carry loss: where a number of the whole step is asked for, not those that it is from."""
        if not needs_constant(self.objective):
            return credit.mask
        carries: BoolArray = credit.mask & (credit.advantages != 0)
        return carries

    @torch.no_grad()
    def constant(
        self, trees: Sequence[Tree], credits: Sequence[Credit], table: TokenTable, chosen: Sequence[int], budget: int
    ) -> torch.Tensor | None:
        """The objective's number for one optimiser step, under the policy as it is before it; None: it asks for none.

        Args:
            chosen: the trees of the optimiser step.
            budget: tokens per forward pass.
        """
        if not needs_constant(self.objective):
            return None
        asked = [(i, credits[i].mask & (credits[i].advantages == 0)) for i in chosen]
        parts = [pieces(trees[i], mask, int(table.offsets[i]), sys.maxsize) for i, mask in asked if mask.any()]
        if not parts:
            raise LearnerError(
                "The objective estimates a divergence from answers to other prompts, and there are none.",
                hint="take at least two prompts per step.",
            )
        seen: list[RolloutBatch] = []
        for batch in microbatches((piece for some in parts for piece in some), budget):
            packed = pack([piece.tree for piece in batch.pieces], [p.mask for p in batch.pieces], self._policy.device)
            log_probs = self._policy.token_scores(packed, entropy=False).log_probs
            layout = RolloutLayout.of(batch.pieces)
            references = self._reference_sums(layout, [packed], keep=False)
            seen.append(self._rollouts(batch.scored, layout, log_probs, table.advantages, references))
        compared = [part.reference_log_probs for part in seen if part.reference_log_probs is not None]
        joined = RolloutBatch(
            log_probs=torch.cat([part.log_probs for part in seen]),
            lengths=torch.cat([part.lengths for part in seen]),
            advantages=torch.cat([part.advantages for part in seen]),
            prompts=torch.cat([part.prompts for part in seen]),
            prompt_count=max(part.prompt_count for part in seen),
            reference_log_probs=torch.cat(compared) if compared else None,
        )
        return self.objective.constant(joined)

    def loss(
        self,
        batch: Microbatch,
        packed: Packed,
        tokens: TokenBatch,
        work: Work,
    ) -> torch.Tensor:
        """The part of the loss that one micro-batch has, a scalar with gradient; its diagnostics go to `work.tally`."""
        if batch.cut:
            assert work.slopes is not None
            slopes = on_device(work.slopes.of[batch.scored], tokens.log_probs)
            linear = (slopes * tokens.log_probs).sum()
            return linear - linear.detach() + work.slopes.losses.get(int(batch.scored[0]), 0.0)
        layout = RolloutLayout.of(batch.pieces)
        references = self._reference_sums(layout, [packed], keep=self._keep)
        rollouts = self._rollouts(batch.scored, layout, tokens.log_probs, work.table.advantages, references)
        return self._told(rollouts, layout, tokens.old_log_probs, batch.scored, work)

    def slopes(self, cut: Sequence[Sequence[Microbatch]], whole: Sequence[Piece], work: Work) -> Slopes:
        """What stands in for the objective where trees are too large for one pass, under the policy as it is.

        The objective is a function of the log-probabilities of all tokens of a tree. They are computed first, part
        after part and without a graph; then the objective's derivative by each of them is known, and

            sum_t (d loss / d log pi_t) log pi_t

        has the objective's gradient and falls into parts.

        Args:
            cut: the parts of each such tree.
            whole: each such tree.
        """
        slopes = np.zeros(len(work.weights))
        losses: dict[int, float] = {}
        for parts, piece in zip(cut, whole, strict=True):
            packed, said, order = self._read(parts)
            log_probs = said.requires_grad_()
            layout = RolloutLayout.of([piece])
            references = self._reference_sums(layout, packed, keep=self._keep, order=order)
            rollouts = self._rollouts(piece.scored, layout, log_probs, work.table.advantages, references)
            old = log_probs.detach()
            if work.start is not None:
                old = work.start.old_log_probs[torch.from_numpy(piece.scored).to(old.device)]
            with torch.enable_grad():
                loss = self._told(rollouts, layout, old, piece.scored, work)
                (slope,) = torch.autograd.grad(loss, log_probs)
            slopes[piece.scored] = slope.double().cpu().numpy()
            losses[int(parts[0].scored[0])] = float(loss.detach())
        return Slopes(slopes, losses)

    def _told(
        self, rollouts: RolloutBatch, layout: RolloutLayout, old: torch.Tensor, scored: IntArray, work: Work
    ) -> torch.Tensor:
        """The loss of these rollouts by the weights of their prompts; their diagnostics go to `work.tally`."""
        rollouts = replace(rollouts, constant=work.constant)
        if getattr(self.objective, "against_old", False):
            rollouts = replace(rollouts, reference_log_probs=layout.sums(old))
        losses, diagnostics = self.objective(rollouts)
        shares = np.bincount(layout.prompt_of_token, work.weights[scored], minlength=rollouts.prompt_count)
        counts = torch.from_numpy(shares).to(losses.device)
        for name, values in diagnostics.items():
            known = ~torch.isnan(values)
            work.tally.mean(name, values[known], counts[known])
        return (counts * losses).sum()

    @torch.no_grad()
    def judge(
        self, trees: Sequence[Tree], credits: Sequence[Credit], table: TokenTable, together: int, uncut: int
    ) -> Judged:
        """What the objective says of trees under the policy as it is, each with a loss; nobody learns from it.

        Args:
            together, uncut: see `PassTokens`.
        """
        constant = self.constant(trees, credits, table, range(len(trees)), together)
        narrow: list[Piece] = []
        wide: list[tuple[list[Microbatch], list[Piece]]] = []
        for tree, credit, offset in zip(trees, credits, map(int, table.offsets), strict=False):
            mask = self.loss_mask(credit)
            (whole,) = pieces(tree, mask, offset, sys.maxsize)
            if len(whole.mask) <= uncut:
                narrow.append(whole)
            else:
                cut = pieces(tree, mask, offset, together)
                wide.append(([Microbatch((piece,), cut=True) for piece in cut if len(piece.scored)], [whole]))
        rows = [([batch], batch.pieces) for batch in microbatches(narrow, together)]
        said = [self._judged(parts, whole, table, constant) for parts, whole in (*rows, *wide)]
        names = said[0].by_prompt
        by_prompt = {name: np.concatenate([one.by_prompt[name] for one in said]) for name in names}
        return Judged(by_prompt, {id: reward for one in said for id, reward in one.rewards.items()})

    def _judged(
        self, parts: Sequence[Microbatch], whole: Sequence[Piece], table: TokenTable, constant: torch.Tensor | None
    ) -> Judged:
        """`judge` of trees that are computed in these parts."""
        packed, log_probs, order = self._read(parts)
        layout = RolloutLayout.of(whole)
        scored = np.concatenate([piece.scored for piece in whole])
        references = self._reference_sums(layout, packed, keep=self._keep, order=order)
        rollouts = replace(self._rollouts(scored, layout, log_probs, table.advantages, references), constant=constant)
        losses, diagnostics = self.objective(rollouts)
        found = {name: values.double().cpu().numpy() for name, values in {"loss": losses, **diagnostics}.items()}
        rewards = cast(ImplicitReward, self.objective).rewards(rollouts).tolist()
        ids = [rollout.id for piece in whole for rollout in piece.tree.rollouts]
        return Judged(found, dict(zip(ids, rewards, strict=True)))

    def state(self) -> dict[str, torch.Tensor]:
        """The kept reference log-probabilities, for checkpoints."""
        if not self._kept:
            return {}
        names = np.frombuffer(b"".join(self._kept), np.uint8).reshape(len(self._kept), -1)
        values = torch.tensor(list(self._kept.values()), dtype=torch.float64)
        return {f"{KEPT}names": torch.from_numpy(names.copy()), f"{KEPT}log_probs": values}

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Take back what `state` gave, and return the tensors of others."""
        self._kept = {}
        if f"{KEPT}names" in tensors:
            names, values = tensors[f"{KEPT}names"].cpu().numpy(), tensors[f"{KEPT}log_probs"].tolist()
            self._kept = {name.tobytes(): value for name, value in zip(names, values, strict=True)}
        return {name: tensor for name, tensor in tensors.items() if not name.startswith(KEPT)}

    @torch.no_grad()
    def _read(self, parts: Sequence[Microbatch]) -> tuple[list[Packed], torch.Tensor, torch.Tensor]:
        """(rows, log-probabilities in the order of the `TokenTable`, what brings those of the rows into it)."""
        rows = [packed_row(part, self._policy.device) for part in parts]
        said = torch.cat([self._policy.token_scores(row, entropy=False).log_probs for row in rows])
        order = torch.from_numpy(np.argsort(np.concatenate([part.scored for part in parts]), kind="stable"))
        return rows, said[order.to(said.device)], order

    def _rollouts(
        self,
        scored: IntArray,
        layout: RolloutLayout,
        log_probs: torch.Tensor,
        advantages: FloatArray,
        references: torch.Tensor | None,
    ) -> RolloutBatch:
        device = log_probs.device
        return RolloutBatch(
            log_probs=layout.sums(log_probs),
            lengths=layout.sums(torch.ones_like(log_probs)).detach(),
            advantages=torch.from_numpy(advantages[scored[layout.last]]).to(device),
            prompts=torch.from_numpy(layout.prompts).to(device),
            prompt_count=int(layout.prompts[-1]) + 1,
            reference_log_probs=references,
        )

    def _reference_sums(
        self, layout: RolloutLayout, packed: Sequence[Packed], *, keep: bool, order: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """What the reference says of each rollout, whose tokens stand in these rows (in this order of theirs)."""
        if self._reference is None:
            return None
        if keep and all(name in self._kept for name in layout.names):
            known = [self._kept[name] for name in layout.names]
            return torch.tensor(known, dtype=torch.float64, device=packed[0].tokens.device)
        said = torch.cat([self._reference.token_scores(row, entropy=False).log_probs for row in packed])
        sums = layout.sums(said if order is None else said[order.to(said.device)])
        if keep:
            for name, value in zip(layout.names, sums.tolist(), strict=True):
                self._kept.setdefault(name, value)
        return sums


def token_reference(algorithm: Algorithm, reference: Reference | None) -> Reference | None:
    """The reference, if something asks for its log-probability of every single token."""
    parts = (*algorithm.regularisers, *(() if reads_rollouts(algorithm.objective) else (algorithm.objective,)))
    return reference if any(getattr(part, "needs_reference", False) for part in parts) else None
