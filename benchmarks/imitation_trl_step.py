"""Time whole steps of TRL's SFTTrainer, DPOTrainer or RewardTrainer; runs in TRL's own environment (`setup_trl.sh`).

Settings chosen in TRL's favour: no gradient checkpointing, fp32, sdpa attention, fused AdamW, no data workers, no
logging, no saving, no progress bar; texts become tokens, rows are packed and the reference's log-probabilities are
computed before the clock starts. Cloning packs whole answers, best fit first ("bfd"), which keeps them apart from each
other also with sdpa. `BEST` holds the micro-batch and, for cloning, the length of a packed row that need the least
processor time; where several agree within a twentieth, those that need the least memory.
"""

import tempfile
from typing import Any

from imitation_workloads import IMITATION, ImitationWorkload
from protocol import Report, arguments, set_threads

PARSER = arguments(__doc__.splitlines()[0])
PARSER.add_argument("--micro-batch", type=int, help="rows per backward pass; the best known when left out")
PARSER.add_argument("--packed-length", type=int, help="tokens in a packed row; the best known when left out")
PARSER.add_argument("--reference-in-step", action="store_true", help="the reference is asked again in every step")
PARSER.add_argument(
    "--padded", action="store_true", help="cloning with padded rows, sorted by length, in place of packed"
)
PARSER.add_argument("--compile", action="store_true", help="torch.compile the model")
OPTIONS = PARSER.parse_args()
set_threads(OPTIONS.threads)

import torch  # noqa: E402
from datasets import Dataset, disable_progress_bars  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl import (  # noqa: E402
    DPOConfig,
    DPOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)
from trl_process import Record, settings, versions  # noqa: E402

BEST = {"dpo": (1, None), "reward-model": (1, None), "clone": (1, 272)}


class LossRecord(Record):
    """What is kept of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[torch.Tensor] = []
        self.losses: list[torch.Tensor] = []
        self.gradient_norms: list[torch.Tensor] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Called when the optimiser has stepped."""
        super().on_step_end(*args, **kwargs)
        self.losses.append(torch.stack(self.parts).sum())
        self.parts.clear()


class Recorded:
    """The trainers as they are, which keep the loss of every micro-batch and the norm of every gradient."""

    record: LossRecord

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        part = super().training_step(*args, **kwargs)  # type: ignore[misc]
        self.record.parts.append(part)
        return part

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)  # type: ignore[misc]
        self.record.gradient_norms.append(norm)
        return norm


class RecordedDPO(Recorded, DPOTrainer): ...


class RecordedReward(Recorded, RewardTrainer): ...


class RecordedSFT(Recorded, SFTTrainer): ...


def trainer(
    workload: ImitationWorkload, micro_batch: int, packed_length: int | None, folder: str, record: LossRecord
) -> Any:
    """The trainer of a workload, whose one epoch is one optimiser step over all rows."""
    common = settings(OPTIONS, micro_batch, -(-workload.rows // micro_batch), folder)
    common["torch_compile"] = OPTIONS.compile
    kind = AutoModelForSequenceClassification if workload.method == "reward-model" else AutoModelForCausalLM
    parts = {
        "model": kind.from_pretrained(OPTIONS.model, dtype=torch.float32, attn_implementation="sdpa"),
        "processing_class": AutoTokenizer.from_pretrained(OPTIONS.model),
        "callbacks": [record],
    }
    if workload.method == "clone":
        del common["disable_dropout"]  # the model has none
        packing = {"train_sampling_strategy": "group_by_length"} if OPTIONS.padded else {"packing": True}
        arguments = SFTConfig(**common, **packing, max_length=packed_length, completion_only_loss=True)
        rows = Dataset.from_list(workload.demonstrations(OPTIONS.seed))
        return RecordedSFT(args=arguments, train_dataset=rows, **parts)
    rows = Dataset.from_list(workload.pairs(OPTIONS.seed))
    if workload.method == "dpo":
        before = not OPTIONS.reference_in_step
        return RecordedDPO(
            args=DPOConfig(**common, beta=0.1, precompute_ref_log_probs=before), train_dataset=rows, **parts
        )
    return RecordedReward(args=RewardConfig(**common), train_dataset=rows, **parts)


def main() -> None:
    """Learn for `warmup + steps` steps and print the report of the last `steps`."""
    torch.set_num_threads(OPTIONS.threads)
    disable_progress_bars()
    workload = IMITATION[OPTIONS.workload]
    micro_batch, packed_length = BEST[workload.method]
    micro_batch = OPTIONS.micro_batch or micro_batch
    packed_length = OPTIONS.packed_length or packed_length
    record = LossRecord()
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(workload, micro_batch, packed_length, folder, record)
        made.record = record
        made.train()
    Report(
        system="trl",
        workload=workload.method,
        versions=versions(),
        settings={
            "micro_batch": micro_batch,
            "packed_length": packed_length,
            "reference_in_step": OPTIONS.reference_in_step,
        },
        losses=[float(loss) for loss in record.losses],
        gradient_norms=[float(norm) for norm in record.gradient_norms],
        **record.meter.measured(OPTIONS.warmup),
    ).print()


if __name__ == "__main__":
    main()
