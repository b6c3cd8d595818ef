"""Constraints while a run goes on: penalties are taken off before credit is given, coefficients follow what happens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from laurel.algorithms import Algorithm, Credit
from laurel.credit.fans import live_segments
from laurel.errors import ConfigurationError, LearnerError
from laurel.learner.batching import microbatches, pieces
from laurel.metrics import Metric
from laurel.objectives import Budget, Constraint, Penalty, TokenLoss
from laurel.policy import Policy, Reference, pack
from laurel.tree import BoolArray, FloatArray, Tree

KL = "kl/reference"
"""The metric that the coefficient of a KL constraint follows, in nats per token."""

COEFFICIENT = "coefficient."
"""What the names of coefficients start with in the state of a learner."""


class Constraints:
    """The live coefficients of an algorithm's constraints, and what they make of trees and losses.

    Every part of an algorithm that is a `Constraint` has one coefficient under its name; parts of one name (the two
    halves of an exact KL) share it. It begins as the algorithm says; where the part has a control, it changes after
    every update in which the policy learned or was measured.

    Args:
        algorithm: its regularisers and penalties.
        policy, reference: what token penalties compare.
        together, uncut: most tokens in one forward pass, and in one tree before it is cut.

    Raises:
        ConfigurationError: if two constraints of one name do not agree on its coefficient.
    """

    def __init__(
        self, algorithm: Algorithm, policy: Policy, reference: Reference | None, *, together: int, uncut: int
    ) -> None:
        self._algorithm = algorithm
        self._policy, self._reference = policy, reference
        self._together, self._uncut = together, uncut
        self._parts: dict[str, Constraint] = {}
        for part in (*algorithm.regularisers, *algorithm.penalties):
            if not isinstance(part, Constraint):
                continue
            other = self._parts.setdefault(part.name, part)
            if (other.coefficient, other.control) != (part.coefficient, part.control):
                raise ConfigurationError(
                    f"'{algorithm.name}' has two constraints '{part.name}' that do not agree on their coefficient.",
                    hint="give both the same coefficient and control.",
                )
        self.coefficients = {name: float(part.coefficient) for name, part in self._parts.items()}
        self.regularisers: tuple[TokenLoss, ...] = tuple(map(self._live, algorithm.regularisers))

    def shaped(self, trees: Sequence[Tree]) -> tuple[Sequence[Tree], list[FloatArray] | None]:
        """The trees as credit should see them, and log pi - log ref of every token where that was looked at.

        Returns:
            Trees of the same layout with the penalties taken off their rewards, and [T] per tree, NaN where a token
            was not scored; None where no penalty compares with the reference.
        """
        penalties: list[Penalty] = list(map(self._live, self._algorithm.penalties))
        if not penalties:
            return trees, None
        log_ratios = exact = None
        if self._reference is not None and any(getattr(part, "needs_reference", False) for part in penalties):
            log_ratios, exact = self._compare(
                trees, exact=any(getattr(part, "needs_divergence", False) for part in penalties)
            )
        shaped = []
        for index, tree in enumerate(trees):
            for penalty in penalties:
                chosen = exact if getattr(penalty, "needs_divergence", False) else log_ratios
                tree = penalty.applied(tree, None if chosen is None else chosen[index])
            shaped.append(tree)
        return shaped, log_ratios

    def follow(
        self, trees: Sequence[Tree], credits: Sequence[Credit], metrics: Mapping[str, Metric]
    ) -> dict[str, Metric]:
        """Let every controlled coefficient follow what was measured in one update.

        Args:
            trees, credits: the batch that was learned from, its scores without penalties.
            metrics: of the update.

        Returns:
            Per constraint, under its name, `.../coefficient` as it was in this update; `kl/reference`, over all tokens
            with credit, where the KL stands in the reward; and the mean of every part that a budget bounds.

        Raises:
            LearnerError: if a measurement is not finite.
        """
        seen = {f"{name}/coefficient": Metric(value, 1.0) for name, value in self.coefficients.items()}
        log_ratios = [c.reference_log_ratios[c.mask] for c in credits if c.reference_log_ratios is not None]
        if log_ratios:
            together = np.concatenate(log_ratios)
            seen[KL] = Metric.of(np.expm1(-together) + together)
        for name, part in self._parts.items():
            if isinstance(part, Budget):
                seen[name] = Metric(*part.measured(trees, [credit.mask for credit in credits]))
            measured = {**metrics, **seen}.get(name if isinstance(part, Budget) else KL)
            if part.control is None or measured is None or not measured.count:
                continue
            if not math.isfinite(measured.mean):
                raise LearnerError(f"The measurement that '{name}' follows is {measured.mean}.",
                                   hint="resume from the last checkpoint with a smaller learning rate.")  # fmt: skip
            sign = part.sign if isinstance(part, Budget) else 1.0
            self.coefficients[name] = part.control(self.coefficients[name], sign * measured.mean)
        self.regularisers = tuple(map(self._live, self._algorithm.regularisers))
        return seen

    def state(self) -> dict[str, float]:
        """JSON-able: the coefficients that are controlled."""
        return {f"{COEFFICIENT}{name}": value for name, value in self.coefficients.items() if self._parts[name].control}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Go on with the coefficients of a saved run.

        Raises:
            LearnerError: if it had another set of them.
        """
        own, saved = set(self.state()), {key for key in state if key.startswith(COEFFICIENT)}
        if own != saved:
            raise LearnerError(
                f"The saved learner controls {sorted(saved) or 'no coefficient'}, this one {sorted(own) or 'none'}.",
                hint="resume with the algorithm of the run.",
            )
        self.coefficients |= {key.removeprefix(COEFFICIENT): state[key] for key in saved}
        self.regularisers = tuple(map(self._live, self._algorithm.regularisers))

    def _live(self, part: Any) -> Any:
        """The same part with its coefficient of the moment."""
        if not isinstance(part, Constraint):
            return part
        return replace(cast(Any, part), coefficient=self.coefficients[part.name])

    @torch.no_grad()
    def _compare(self, trees: Sequence[Tree], *, exact: bool) -> tuple[list[FloatArray], list[FloatArray] | None]:
        """log pi - log ref of every policy token that a live rollout passes, and the KL at its state; [T] per tree."""
        reference = cast(Reference, self._reference)
        offsets = np.cumsum([0, *(len(tree.flat) for tree in trees)])
        ratios, divergences = (np.full(int(offsets[-1]), np.nan) for _ in range(2))
        parts = [
            piece
            for tree, offset in zip(trees, offsets.tolist(), strict=False)
            for piece in pieces(tree, drawn_tokens(tree), offset, self._uncut)
        ]
        for batch in microbatches(parts, self._together):
            packed = pack([piece.tree for piece in batch.pieces], [p.mask for p in batch.pieces], self._policy.device)
            scores = self._policy.token_scores(packed, entropy=False, reference=reference if exact else None)
            theirs = reference.token_scores(packed, entropy=False).log_probs
            ratios[batch.scored] = (scores.log_probs - theirs).double().cpu().numpy()
            if scores.divergence is not None:
                divergences[batch.scored] = scores.divergence.double().cpu().numpy()
        return _by_tree(ratios, offsets), _by_tree(divergences, offsets) if exact else None


def drawn_tokens(tree: Tree) -> BoolArray:
    """The policy tokens below which a rollout did not fail, [T]."""
    outcomes = [tree.segments[leaf].outcome for leaf in tree.leaves]
    alive = np.array([outcome is None or not outcome.failed for outcome in outcomes])
    drawn: BoolArray = tree.flat.policy & live_segments(tree, alive)[tree.flat.segment]
    return drawn


def _by_tree(values: FloatArray, offsets: np.ndarray) -> list[FloatArray]:
    return np.split(values, offsets[1:-1])
