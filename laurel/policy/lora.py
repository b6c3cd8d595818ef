"""Low-rank adapters (LoRA, Hu et al. 2021) by peft: W x becomes W x + (alpha / rank) B A x; only A and B train."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch

from laurel.errors import ConfigurationError, MissingExtraError, PolicyError


@dataclass(frozen=True)
class LoraSettings:
    """What to adapt, and how much.

    Attributes:
        rank: inner width of the update.
        alpha: the update is multiplied by alpha / rank.
        targets: names of the linear maps to adapt (as peft's `target_modules`), or "all-linear" for every one but the
            output head.
        seed: of A's initial weights; B starts at 0, so the adapted policy starts equal to the base model.
    """

    rank: int = 16
    alpha: float = 32.0
    targets: str | tuple[str, ...] = "all-linear"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigurationError(f"lora: rank must be at least 1, got {self.rank}.", hint="8 to 64 are usual.")


def add_adapter(model: Any, settings: LoraSettings) -> None:
    """Freeze the model and put a fresh adapter into it.

    Raises:
        MissingExtraError: without peft.
        PolicyError: when no module has one of the target names, or the output head has.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("An adapter", package="peft", extra="lora") from error
    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    adapter = peft.LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=targets, lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        try:
            peft.inject_adapter_in_model(adapter, model)
        except ValueError as error:
            names = sorted({n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)})
            raise PolicyError(f"The adapter does not fit the model: {error}", hint=f"Linear maps: {names}.") from error
    if not isinstance(model.get_output_embeddings(), torch.nn.Linear):
        raise PolicyError("The adapter covers the output head.", hint="leave the head out of `targets`.")
    model.eval()


def merged(model: Any) -> Any:
    """A copy of the model with its adapter added into the weights; the model itself when there is none."""
    if not hasattr(model, "peft_config"):
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    plain = copy.deepcopy(model)
    adapted = [(name, module) for name, module in plain.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        module.merge()
        owner, _, attribute = name.rpartition(".")
        setattr(plain.get_submodule(owner), attribute, module.get_base_layer())
    del plain.peft_config
    return plain
