"""AdamW with warm-up and clipping by the global norm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from laurel.errors import ConfigurationError
from laurel.learner.schedule import Schedule, check_schedule, check_total_steps, schedule_factor
from laurel.learner.weights import TrainedWeights

_LEFT_OUT = "left_out_steps"
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


class Optimiser(TrainedWeights):
    """AdamW (torch's) over named parameters, or over their masters.

    Args:
        parameters: name to parameter, tied ones once. Nothing else is ever changed.
        settings: how they move.
        total_steps: all optimiser steps of the run; the linear and cosine schedules need it.

    Attributes:
        left_out: how many steps of the plan were not taken; see `schedule_factor`.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter],
        settings: OptimiserSettings,
        *,
        total_steps: int | None = None,
    ) -> None:
        super().__init__(parameters)
        check_total_steps(settings.schedule, warmup_steps=settings.warmup_steps, total_steps=total_steps)
        self.settings = settings
        self.total_steps = total_steps
        self.left_out = 0
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
            settings.schedule,
            self.done,
            left_out=self.left_out,
            warmup_steps=settings.warmup_steps,
            total_steps=self.total_steps,
        )

    def leave_out(self, steps: int) -> None:
        """Go on in the schedule as if so many steps had been taken, without moving anything."""
        self.left_out += steps

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
        before = self._sampled()
        for group in self._adam.param_groups:
            group["lr"] = self.learning_rate
        self._adam.step()
        self._copy_masters()
        self.done += 1
        self.clear_gradients()
        return self._changed_since(before)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """(tensors, JSON-able): moments and masters by `kind.parameter name`, and the steps done and left out.

        The tensors are the live ones: save them before the next step. Parameters themselves are not among them
        (masters are).
        """
        tensors, counters = super().state()
        for name, tensor in self._trained.items():
            for kind, key in _MOMENTS.items():
                if tensor in self._adam.state:
                    tensors[f"{kind}.{name}"] = self._adam.state[tensor][key]
        return tensors, counters | ({_LEFT_OUT: self.left_out} if self.left_out else {})

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, int]) -> None:
        """Continue as the optimiser that `state` came from; 16-bit parameters are rewritten from their masters.

        Raises:
            LearnerError: if the state belongs to other parameters; nothing is changed then.
        """
        stepped = {name for kind, _, name in (key.partition(".") for key in tensors) if kind == "steps"}
        needed = {f"master.{name}" for name in self._masters} | {f"{kind}.{n}" for kind in _MOMENTS for n in stepped}
        self._check_state(tensors, {"master", *_MOMENTS}, needed)
        super().load_state({key: tensor for key, tensor in tensors.items() if key.startswith("master.")}, state)
        self.left_out = state.get(_LEFT_OUT, 0)
        self._adam.state.clear()
        for name in stepped:
            trained = self._trained[name]
            self._adam.state[trained] = {
                key: tensors[f"{kind}.{name}"].to(trained.device, torch.float32 if kind == "steps" else trained.dtype)
                .clone()
                for kind, key in _MOMENTS.items()
            }  # fmt: skip
