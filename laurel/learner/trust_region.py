"""A trust region: the step that improves the surrogate most while the policy stays within a KL of where it was.

With the gradient g of the loss L (minus the surrogate), the Fisher matrix F of `laurel.policy.fisher` and a damping c:

    x = (F + c 1)^-1 g               by conjugate gradient, from products with F alone
    s = -x sqrt(2 delta / x^T F x)   the quadratic model 1/2 s^T F s of the KL meets delta
    try s, s/2, s/4, ...             take the first with L(theta + s) < L(theta) and KL(old, theta + s) <= delta

where the KL is measured: summed over the whole vocabulary, averaged over all states in which the batch decided. If none
of the tries will do, the step is refused: the weights are bit for bit what they were, and the report says so.

Source: Schulman et al. 2015, arXiv 1502.05477, section 6 and appendix C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from laurel.algorithms import Algorithm, TrustRegion
from laurel.errors import ConfigurationError
from laurel.learner.optimiser import Optimiser, OptimiserSettings
from laurel.learner.weights import TrainedWeights
from laurel.metrics import Metric
from laurel.policy import Packed, Policy
from laurel.policy.divergence import Compared, divergence
from laurel.policy.fisher import Linearised, add_fisher_product, check_tangents, predictors
from laurel.policy.log_probs import Head

SOLVED = 1e-10
"""A system is solved once its residual is this fraction of the right-hand side."""

CANCELLED = 1e-2
"""Where less than this is left of x^T g after the damping is taken off, rounding may be most of it."""


@dataclass(frozen=True)
class Solution:
    """What conjugate gradient found.

    Attributes:
        x: [P] the approximate solution.
        residual: |b - A x| / |b|, as the recursion has it.
        products: how many products with A it took.
    """

    x: Tensor
    residual: float
    products: int


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    Attributes:
        refused: why the weights are what they were, or None.
        halvings: how often the step was halved before it was taken or given up.
        kl: the measured KL(old, now) of the policy as it is after the step, in nats per state; 0 if it was refused.
        full_kl: the measured KL of the step before it was halved, for which the quadratic model said delta; NaN if none
            was tried.
        improvement: by how much the measured loss fell; 0 if the step was refused.
        predicted_improvement: by how much it would have fallen along its gradient.
        residual, products: of the conjugate gradient; a product that only scales the step counts too.
    """

    refused: str | None
    halvings: int
    kl: float
    full_kl: float
    improvement: float
    predicted_improvement: float
    residual: float
    products: int

    def metrics(self) -> dict[str, Metric]:
        """For the report of an update: one value each."""
        values = {
            "trust_region/refused": float(self.refused is not None),
            "trust_region/halvings": float(self.halvings),
            "trust_region/kl": self.kl,
            "trust_region/full_step_kl": self.full_kl,
            "trust_region/improvement": self.improvement,
            "trust_region/predicted_improvement": self.predicted_improvement,
            "trust_region/residual": self.residual,
        }
        return {name: Metric(value, 1.0) for name, value in values.items() if value == value}


def conjugate_gradient(product: Callable[[Tensor], Tensor], target: Tensor, *, iterations: int) -> Solution:
    """Solve A x = b for a symmetric positive semi-definite A, from x = 0; exact after as many steps as b has entries.

    Stops early once the residual is `SOLVED` of b, or in a direction without curvature.

    Args:
        product: v to A v.
        target: b, [P].
        iterations: most products.
    """
    x = torch.zeros_like(target)
    residual, direction = target.clone(), target.clone()
    square = size = float(target @ target)
    products = 0
    while products < iterations and square > SOLVED**2 * size:
        curved = product(direction)
        products += 1
        curvature = float(direction @ curved)
        if not curvature > 0:
            break
        length = square / curvature
        x.add_(direction, alpha=length)
        residual.sub_(curved, alpha=length)
        before, square = square, float(residual @ residual)
        direction.mul_(square / before).add_(residual)
    return Solution(x, (square / size) ** 0.5 if size else 0.0, products)


def search(
    gradient: Tensor,
    fisher: Callable[[Tensor], Tensor],
    tried: Callable[[Tensor], tuple[float, float]],
    loss: float,
    region: TrustRegion,
) -> Outcome:
    """Find a step and take it.

    Args:
        gradient: [P] of the loss at the start.
        fisher: v to F v.
        tried: a displacement [P] from the start to (loss, KL from the start) there; it leaves the weights displaced, as
            the outcome leaves them: at the step that was taken, or at the last try if it was refused.
        loss: at the start.
        region: delta, damping, how long to look.
    """
    solution = conjugate_gradient(lambda v: fisher(v) + region.damping * v, gradient, iterations=region.iterations)
    curvature, more = _curvature(solution.x, gradient, fisher, region.damping)
    cost = {"residual": solution.residual, "products": solution.products + more}
    if not 0 < curvature < float("inf"):
        why = f"there is no curvature along the step (x F x = {curvature:.3g})"
        return Outcome(why, 0, 0.0, float("nan"), 0.0, 0.0, **cost)  # type: ignore[arg-type]
    step = solution.x.mul_(-((2 * region.maximum_kl / curvature) ** 0.5))
    predicted = -float(gradient @ step)
    full_kl = float("nan")
    for halvings in range(region.halvings + 1):
        now, kl = tried(step)
        full_kl = full_kl if halvings else kl
        if now < loss and kl <= region.maximum_kl:
            return Outcome(None, halvings, kl, full_kl, loss - now, predicted / 2**halvings, **cost)  # type: ignore[arg-type]
        step.mul_(0.5)
    why = f"none of {region.halvings + 1} step lengths improved the surrogate within a KL of {region.maximum_kl:g}"
    return Outcome(why, region.halvings, 0.0, full_kl, 0.0, predicted, **cost)  # type: ignore[arg-type]


def _curvature(x: Tensor, gradient: Tensor, fisher: Callable[[Tensor], Tensor], damping: float) -> tuple[float, int]:
    """x F x, and how many products it took: none where x^T g - c x^T x says it, as the residual is orthogonal to x."""
    total = float(x @ gradient)
    curvature = total - damping * float(x @ x)
    if curvature > CANCELLED * total:
        return curvature, 0
    return float(x @ fisher(x)), 1


class TrustRegionSearch(TrainedWeights):
    """Moves a policy's weights by `search`. Beside the masters of 16-bit parameters it keeps nothing between steps.

    Args:
        policy: whose trainable parameters move.
        region: how far, and how the step is looked for.

    Attributes:
        refused: why the newest step was not taken, or None.

    Raises:
        ConfigurationError: if the model has no forward-mode derivative (found out on a few tokens).
    """

    def __init__(self, policy: Policy, region: TrustRegion) -> None:
        super().__init__(policy.trainable_parameters())
        check_tangents(policy)
        self.policy = policy
        self.region = region
        self.refused: str | None = None

    @torch.no_grad()
    def step(self, batch: Sequence[Packed], loss: float, measured: Callable[[], float]) -> tuple[Outcome, int, int]:
        """Move along the gathered gradients, or not at all; forget them.

        Args:
            batch: everything that was decided; the KL is averaged over the states of its scored tokens.
            loss: whose gradient was gathered.
            measured: the loss under the weights as they are when it is called.

        Returns:
            What became of the step; how many of the inspected weights changed, and how many were inspected.
        """
        start = {name: tensor.detach().clone() for name, tensor in self._trained.items()}
        inspected = self._sampled()
        gradient = self._flat_gradient()
        tokens = sum(len(packed.row_of) for packed in batch)
        counts = [torch.bincount(packed.row_of, minlength=len(packed.row_predictors)) for packed in batch]
        visits = [count.double() / tokens for count in counts]
        old_head = _copied(self.policy.head)
        # The graph of one micro-batch is what its backward pass held too; those of several would be more.
        kept = Linearised.of(self.policy, batch[0]) if len(batch) == 1 else None
        before = [kept.hidden.detach()] if kept else [predictors(self.policy, packed) for packed in batch]

        def tried(displacement: Tensor) -> tuple[float, float]:
            self._place(start, displacement)
            kl = 0.0
            for packed, old, share in zip(batch, before, visits, strict=True):
                now = Compared(predictors(self.policy, packed), self.policy.head)
                kl += float(share @ divergence(old, old_head, now, packed.rows).double())
            return measured(), kl

        outcome = search(gradient, lambda v: self._fisher(batch, visits, v, kept), tried, loss, self.region)
        self.refused = outcome.refused
        if outcome.refused is None:
            self.done += 1
        else:
            self._place(start, None)
        self.clear_gradients()
        changed, count = self._changed_since(inspected)
        return outcome, changed, count

    def _fisher(
        self, batch: Sequence[Packed], visits: Sequence[Tensor], direction: Tensor, kept: Linearised | None
    ) -> Tensor:
        self.clear_gradients()
        named = self._split(direction)
        with torch.enable_grad():
            for packed, share in zip(batch, visits, strict=True):
                add_fisher_product(self.policy, kept or Linearised.of(self.policy, packed), named, share)
                self.gather_gradients()
        return self._flat_gradient()

    def _flat_gradient(self) -> Tensor:
        """[P] the gradients of everything that trains, end to end."""
        parts = (torch.zeros_like(t) if t.grad is None else t.grad for t in self._trained.values())
        return torch.cat([part.reshape(-1) for part in parts])

    def _split(self, flat: Tensor) -> dict[str, Tensor]:
        parts = torch.split(flat, [tensor.numel() for tensor in self._trained.values()])
        return {name: part.view(t.shape) for (name, t), part in zip(self._trained.items(), parts, strict=True)}

    def _place(self, start: dict[str, Tensor], displacement: Tensor | None) -> None:
        """Set the weights to the start, exactly, or displaced from it."""
        for name, tensor in self._trained.items():
            tensor.copy_(start[name])
        if displacement is not None:
            for name, part in self._split(displacement).items():
                self._trained[name].add_(part)
        self._copy_masters()


def mover(
    policy: Policy, algorithm: Algorithm, optimiser: OptimiserSettings | None, total_steps: int | None
) -> Optimiser | TrustRegionSearch:
    """What moves a policy's weights, as the algorithm's step says; `total_steps` is for schedules.

    Raises:
        ConfigurationError: optimiser settings where nothing would read them.
    """
    if not isinstance(algorithm.step, TrustRegion):
        return Optimiser(policy.trainable_parameters(), optimiser or OptimiserSettings(), total_steps=total_steps)
    if optimiser is not None:
        raise ConfigurationError(
            f"'{algorithm.name}' finds the length of its steps itself and reads no optimiser settings.",
            hint="leave them out; algorithm.maximum_kl says how far a step may go.",
        )
    return TrustRegionSearch(policy, algorithm.step)


def _copied(head: Head) -> Head:
    """The head as it is now; what is frozen of it is shared."""
    bias = head.bias
    return replace(
        head,
        weight=head.weight.clone() if head.weight.requires_grad else head.weight,
        bias=bias.clone() if bias is not None and bias.requires_grad else bias,
    )
