"""AdamW with warm-up, clipping by the global norm, and float32 masters of parameters that are kept in less."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn.utils import get_total_norm

from laurel.errors import ConfigurationError, LearnerError
from laurel.learner.schedule import Schedule, check_schedule, check_total_steps, schedule_factor

_WEIGHTS_SAMPLED = 1 << 16
_MOMENTS = {"first_moment": "exp_avg", "second_moment": "exp_avg_sq", "steps": "step"}


@dataclass(frozen=True)
class OptimiserSettings:
    """How the weights follow the gradient.

    Attributes:
        learning_rate: the greatest step length (AdamW moves each weight by about this much).
        betas, epsilon: decay of the first and second moments, and what is added to the denominator.
        weight_decay: pull of the matrices towards 0 per step, times the learning rate; vectors are left alone.
        maximum_gradient_norm: a longer gradient is shortened to this; None: never.
        schedule, warmup_steps: see `schedule_factor`; in optimiser steps.
    """

    learning_rate: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    maximum_gradient_norm: float | None = 1.0
    schedule: Schedule = "constant"
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        numbers = {"learning_rate": self.learning_rate, "epsilon": self.epsilon, "weight_decay": self.weight_decay}
        if self.maximum_gradient_norm is not None:
            numbers["maximum_gradient_norm"] = self.maximum_gradient_norm
        for name, value in numbers.items():
            if not math.isfinite(value):
                raise ConfigurationError(f"{name} must be a finite number, got {value}.", hint="see the default.")
        if not self.learning_rate > 0:
            raise ConfigurationError(f"learning_rate must be above 0, got {self.learning_rate}.", hint="try 1e-6.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigurationError(f"betas must lie in [0, 1), got {self.betas}.", hint="try (0.9, 0.999).")
        if not self.epsilon > 0:
            raise ConfigurationError(f"epsilon must be above 0, got {self.epsilon}.", hint="try 1e-8.")
        if self.weight_decay < 0:
            raise ConfigurationError(f"weight_decay must be at least 0, got {self.weight_decay}.", hint="0 is none.")
        if self.maximum_gradient_norm is not None and not self.maximum_gradient_norm > 0:
            raise ConfigurationError(
                f"maximum_gradient_norm must be above 0, got {self.maximum_gradient_norm}.",
                hint="leave it empty (null) for no clipping.",
            )
        check_schedule(self.schedule, warmup_steps=self.warmup_steps)


class Optimiser:
    """AdamW (torch's) over named parameters.

    A parameter of 16 bits has a float32 master: gradients of micro-batches add up in it, AdamW moves it, and the
    parameter is its rounded copy. So a step that is smaller than the parameter's resolution is kept, not swallowed.

    Args:
        parameters: name to parameter, tied ones once. Nothing else is ever changed.
        settings: how they move.
        total_steps: all optimiser steps of the run; the linear and cosine schedules need it.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter],
        settings: OptimiserSettings,
        *,
        total_steps: int | None = None,
    ) -> None:
        if not parameters:
            raise LearnerError("The policy has no trainable parameters.", hint="check what its adapter has frozen.")
        check_total_steps(settings.schedule, warmup_steps=settings.warmup_steps, total_steps=total_steps)
        self.settings = settings
        self.total_steps = total_steps
        self.done = 0
        self._parameters = dict(parameters)
        self._masters = {
            name: parameter.detach().to(torch.float32, copy=True)
            for name, parameter in parameters.items()
            if parameter.element_size() < torch.float32.itemsize
        }
        self._trained: dict[str, torch.Tensor] = {**self._parameters, **self._masters}
        self._adam = torch.optim.AdamW(
            [
                {"params": [t for t in self._trained.values() if t.ndim >= 2], "weight_decay": settings.weight_decay},
                {"params": [t for t in self._trained.values() if t.ndim < 2], "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.epsilon,
            fused=True,
        )

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        settings = self.settings
        return settings.learning_rate * schedule_factor(
            settings.schedule, self.done, warmup_steps=settings.warmup_steps, total_steps=self.total_steps
        )

    def clear_gradients(self) -> None:
        """Forget all gradients and free their memory."""
        for tensor in (*self._parameters.values(), *self._masters.values()):
            tensor.grad = None

    def gather_gradients(self) -> None:
        """Add the 16-bit gradients of one backward pass to those of the masters; call after every backward pass."""
        for name, master in self._masters.items():
            gradient = self._parameters[name].grad
            if gradient is None:
                continue
            self._parameters[name].grad = None
            if master.grad is None:
                master.grad = gradient.float()
            else:
                master.grad.add_(gradient)

    def gradient_norm(self) -> torch.Tensor:
        """Euclidean norm over all gradients together, a scalar on the device."""
        return get_total_norm(self._gradients())

    def step(self, gradient_norm: float) -> tuple[int, int]:
        """Clip, move the weights, forget the gradients.

        Args:
            gradient_norm: the value of `gradient_norm()`, which the caller has found to be finite.

        Returns:
            How many of the inspected weights changed (in the precision that the model computes in), and how many
            were inspected: all, or an even sample of large parameters.
        """
        maximum = self.settings.maximum_gradient_norm
        if maximum is not None and gradient_norm > maximum:
            torch._foreach_mul_(self._gradients(), maximum / gradient_norm)
        before = self._sampled_weights()
        for group in self._adam.param_groups:
            group["lr"] = self.learning_rate
        self._adam.step()
        self._copy_masters()
        self.done += 1
        self.clear_gradients()
        after = self._sampled_weights()
        changed = torch.stack([(old != new).sum() for old, new in zip(before, after, strict=True)]).sum()
        return int(changed), sum(map(len, after))

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """(tensors, JSON-able): moments and masters by `kind.parameter name`, and the steps done.

        The tensors are the live ones: save them before the next step. Parameters themselves are not among them
        (masters are).
        """
        tensors = {f"master.{name}": master for name, master in self._masters.items()}
        for name, tensor in self._trained.items():
            for kind, key in _MOMENTS.items():
                if tensor in self._adam.state:
                    tensors[f"{kind}.{name}"] = self._adam.state[tensor][key]
        return tensors, {"optimiser_steps": self.done}

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, int]) -> None:
        """Continue as the optimiser that `state` came from; 16-bit parameters are rewritten from their masters.

        Raises:
            LearnerError: if the state belongs to other parameters; nothing is changed then.
        """
        self._check_state(tensors)
        for name, master in self._masters.items():
            master.copy_(tensors[f"master.{name}"])
        self._copy_masters()
        self._adam.state.clear()
        for name, tensor in self._trained.items():
            if f"steps.{name}" in tensors:
                self._adam.state[tensor] = {
                    key: tensors[f"{kind}.{name}"].to(tensor.device, torch.float32 if kind == "steps" else tensor.dtype)
                    .clone()
                    for kind, key in _MOMENTS.items()
                }  # fmt: skip
        self.done = state["optimiser_steps"]
        self.clear_gradients()

    def _check_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            if name not in self._trained or kind not in {"master", *_MOMENTS}:
                raise LearnerError(f"The saved optimiser has '{key}', the policy has not.", hint="load its own policy.")
            shape = () if kind == "steps" else self._trained[name].shape
            if tensor.shape != shape:
                raise LearnerError(
                    f"The saved '{key}' has shape {tuple(tensor.shape)}, the policy's {tuple(shape)}.",
                    hint="load the policy that it was saved with.",
                )
        needed = {f"master.{name}" for name in self._masters}
        for name in (key.partition(".")[2] for key in tensors if key.startswith("steps.")):
            needed |= {f"{kind}.{name}" for kind in _MOMENTS}
        if missing := sorted(needed - set(tensors)):
            raise LearnerError(
                f"The saved optimiser lacks {missing[0]} and {len(missing) - 1} more.",
                hint="load the checkpoint with the precision that it was saved with.",
            )

    def _gradients(self) -> list[torch.Tensor]:
        return [tensor.grad for tensor in self._trained.values() if tensor.grad is not None]

    @torch.no_grad()
    def _copy_masters(self) -> None:
        for name, master in self._masters.items():
            self._parameters[name].copy_(master)

    def _sampled_weights(self) -> list[torch.Tensor]:
        """An odd stride, so that the sample does not stay in one column of matrices whose width is a power of two."""
        flat = [parameter.detach().reshape(-1) for parameter in self._parameters.values()]
        return [values[:: (len(values) // _WEIGHTS_SAMPLED) | 1].clone() for values in flat]
