"""Time whole steps of TRL's GRPOTrainer on one workload; runs in TRL's own environment (see `setup_trl.sh`).

Settings chosen in TRL's favour: no gradient checkpointing, no reference model (beta 0), one update per batch so that no
old log-probabilities are computed, sdpa attention, KV cache, fused AdamW, no data workers, no logging, no saving, no
progress bar. All answers of one step are generated in one batch. The micro-batch of the backward pass is the one that
needs the least processor time; where several agree within a tenth, the one that needs the least memory.
`--continuous-batching` lets transformers' batching engine sample, which on a CPU takes more time and memory.
"""

import tempfile
import time
from collections.abc import Sequence
from typing import Any

from protocol import Report, arguments, set_threads
from workloads import WORKLOADS, Workload, vowel_fraction

PARSER = arguments(__doc__.splitlines()[0])
PARSER.add_argument("--micro-batch", type=int, help="answers per backward pass; the best known when left out")
PARSER.add_argument("--gradient-checkpointing", action="store_true")
PARSER.add_argument("--continuous-batching", action="store_true", help="transformers' own batching engine")
OPTIONS = PARSER.parse_args()
set_threads(OPTIONS.threads)

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402
from trl_process import Record, settings, versions  # noqa: E402

BEST_MICRO_BATCH = {"short": 32, "shared-prompt": 8, "ragged": 32}


class RolloutRecord(Record):
    """What is kept of every step, and the reward function that both systems share."""

    def __init__(self) -> None:
        super().__init__()
        self.sampling_seconds: list[float] = []
        self.answer_tokens: list[list[int]] = []
        self.mean_reward: list[float] = []

    def reward(self, completions: Sequence[str], **kwargs: Any) -> list[float]:
        """The shared reward, in the form that TRL calls."""
        scores = [vowel_fraction(text) for text in completions]
        self.mean_reward.append(sum(scores) / len(scores))
        return scores


class TimedTrainer(GRPOTrainer):
    """The trainer as it is, with a clock around sampling."""

    def __init__(self, record: RolloutRecord, **kwargs: Any) -> None:
        super().__init__(reward_funcs=record.reward, callbacks=[record], **kwargs)
        self.record = record

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        start = time.perf_counter()
        batch = super()._generate_and_score_completions(inputs)
        self.record.sampling_seconds.append(time.perf_counter() - start)
        self.record.answer_tokens.append(batch["completion_mask"].sum(1).tolist())
        return batch


def configuration(workload: Workload, micro_batch: int, folder: str) -> GRPOConfig:
    """GRPO as Laurel runs it: fp32, temperature 1, whole distribution, one update per batch, no reference."""
    told = settings(OPTIONS, micro_batch, workload.rollouts_per_step // micro_batch, folder)
    told["gradient_checkpointing"] = OPTIONS.gradient_checkpointing
    return GRPOConfig(
        **told,
        num_generations=workload.samples_per_prompt,
        max_completion_length=workload.max_new_tokens,
        num_iterations=1,
        beta=0.0,
        loss_type="grpo",
        scale_rewards="group",
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        use_transformers_continuous_batching=OPTIONS.continuous_batching,
        shuffle_dataset=False,
    )


def main() -> None:
    """Train for `warmup + steps` steps and print the report of the last `steps`."""
    torch.set_num_threads(OPTIONS.threads)
    workload = WORKLOADS[OPTIONS.workload]
    micro_batch = OPTIONS.micro_batch or BEST_MICRO_BATCH[workload.name]
    model = AutoModelForCausalLM.from_pretrained(OPTIONS.model, dtype=torch.float32, attn_implementation="sdpa")
    record = RolloutRecord()
    prompts = workload.prompts(OPTIONS.warmup + OPTIONS.steps, OPTIONS.seed)
    with tempfile.TemporaryDirectory() as folder:
        TimedTrainer(
            record,
            model=model,
            args=configuration(workload, micro_batch, folder),
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            processing_class=AutoTokenizer.from_pretrained(OPTIONS.model, padding_side="left"),
        ).train()
    timed = slice(OPTIONS.warmup, None)
    Report(
        system="trl",
        workload=workload.name,
        versions=versions(),
        settings={
            "micro_batch": micro_batch,
            "gradient_checkpointing": OPTIONS.gradient_checkpointing,
            "continuous_batching": OPTIONS.continuous_batching,
        },
        sampling_seconds=record.sampling_seconds[timed],
        answer_tokens=record.answer_tokens[timed],
        mean_reward=record.mean_reward[timed],
        **record.meter.measured(OPTIONS.warmup),
    ).print()


if __name__ == "__main__":
    main()
