"""What both of TRL's step processes keep of their steps and tell every trainer; runs in TRL's own environment.

Import it after `protocol.set_threads`: it loads torch.
"""

import argparse
from importlib.metadata import version
from typing import Any

from protocol import Meter
from transformers import TrainerCallback


class Record(TrainerCallback):
    """A lap of every step."""

    def __init__(self) -> None:
        self.meter = Meter()

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Called once the model and the data are loaded."""
        self.meter.start()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Called when the optimiser has stepped."""
        self.meter.step_done()


def settings(options: argparse.Namespace, micro_batch: int, accumulated: int, folder: str) -> dict[str, Any]:
    """What every trainer is told, whatever it learns from; `accumulated` micro-batches are one step."""
    return {
        "output_dir": folder,
        "max_steps": options.warmup + options.steps,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": accumulated,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "disable_dropout": True,
        "dataloader_num_workers": 0,
        "use_cpu": True,
        "bf16": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": options.seed,
    }


def versions() -> dict[str, str]:
    """Of TRL and what it computes with."""
    return {name: version(name) for name in ("trl", "transformers", "torch")}
