"""What trains, and what it is kept in: parameters, and float32 masters of those that are kept in less."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch.nn.utils import get_total_norm

from laurel.errors import LearnerError

_WEIGHTS_SAMPLED = 1 << 16


class TrainedWeights:
    """Named parameters that something moves, and the gradients that it moves them by.

    A parameter of 16 bits has a float32 master: gradients of micro-batches add up in it, it is what is moved, and the
    parameter is its rounded copy. So a step that is smaller than the parameter's resolution is kept, not swallowed.

    Args:
        parameters: name to parameter, tied ones once. Nothing else is ever changed.

    Attributes:
        done: how often they have been moved.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        if not parameters:
            raise LearnerError("The policy has no trainable parameters.", hint="check what its adapter has frozen.")
        self.done = 0
        self._parameters = dict(parameters)
        self._masters = {
            name: parameter.detach().to(torch.float32, copy=True)
            for name, parameter in parameters.items()
            if parameter.element_size() < torch.float32.itemsize
        }
        self._trained: dict[str, torch.Tensor] = {**self._parameters, **self._masters}

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

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """(tensors, JSON-able): masters by `master.parameter name`, and how often the weights were moved.

        The tensors are the live ones: save them before the next step. Parameters themselves are not among them.
        """
        return {f"master.{name}": master for name, master in self._masters.items()}, {"optimiser_steps": self.done}

    def load_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, int]) -> None:
        """Continue as the one that `state` came from; 16-bit parameters are rewritten from their masters.

        Raises:
            LearnerError: if the state belongs to other parameters; nothing is changed then.
        """
        self._check_state(tensors, {"master"}, {f"master.{name}" for name in self._masters})
        for name, master in self._masters.items():
            master.copy_(tensors[f"master.{name}"])
        self._copy_masters()
        self.done = state["optimiser_steps"]
        self.clear_gradients()

    def _check_state(self, tensors: Mapping[str, torch.Tensor], kinds: Iterable[str], needed: set[str]) -> None:
        """Refuse tensors of unknown kinds, names or shapes, and the lack of one that is needed."""
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            if name not in self._trained or kind not in kinds:
                raise LearnerError(f"The saved optimiser has '{key}', the policy has not.", hint="load its own policy.")
            shape = () if kind == "steps" else self._trained[name].shape
            if tensor.shape != shape:
                raise LearnerError(
                    f"The saved '{key}' has shape {tuple(tensor.shape)}, the policy's {tuple(shape)}.",
                    hint="load the policy that it was saved with.",
                )
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

    def _sampled(self) -> list[torch.Tensor]:
        """All weights in the precision of the computation, or an even sample of large parameters.

        The stride is odd, so that the sample does not stay in one column of matrices whose width is a power of two.
        """
        flat = [parameter.detach().reshape(-1) for parameter in self._parameters.values()]
        return [values[:: (len(values) // _WEIGHTS_SAMPLED) | 1].clone() for values in flat]

    def _changed_since(self, before: list[torch.Tensor]) -> tuple[int, int]:
        """How many of the weights that `_sampled` gave have changed, and how many it gave."""
        after = self._sampled()
        changed = torch.stack([(old != new).sum() for old, new in zip(before, after, strict=True)]).sum()
        return int(changed), sum(map(len, after))
