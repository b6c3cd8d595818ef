"""Time whole steps of Laurel on one workload of `imitation_workloads.py`.

Cloning and DPO are steps of `laurel.train`, which also write every tree with every token to the run's database; a
reward model's are those of `RewardLearner`, from texts to the optimiser's step. DPO meets every pair in the first step
and keeps what the reference said of it; the timed steps come after.
"""

import tempfile
from pathlib import Path

from imitation_workloads import IMITATION
from protocol import Report, arguments, set_threads

PARSER = arguments(__doc__.splitlines()[0])
PARSER.add_argument("--tokens-per-microbatch", type=int, help="in one pass; as in the results when left out")
OPTIONS = PARSER.parse_args()
set_threads(OPTIONS.threads)

import torch  # noqa: E402
from laurel_process import Record, versions  # noqa: E402

import laurel  # noqa: E402
from laurel.allocation import keep_freed_memory  # noqa: E402
from laurel.judged import comparison, judged  # noqa: E402
from laurel.learner import RewardLearner  # noqa: E402
from laurel.objectives import BradleyTerry  # noqa: E402
from laurel.policy import load_reward_model  # noqa: E402

# One pair at a time, as on the other side. In cloning: as long a pass as takes less memory than the other's packing.
TOKENS = OPTIONS.tokens_per_microbatch or {"dpo": 640, "reward-model": 640, "clone": 352}[OPTIONS.workload]
OPTIMISER = laurel.OptimiserSettings(learning_rate=OPTIONS.learning_rate, weight_decay=0.0, maximum_gradient_norm=1.0)


def trained(record: Record, steps: int) -> None:
    """Steps of `laurel.train`."""
    workload = IMITATION[OPTIONS.workload]
    if workload.method == "dpo":
        algorithm, tasks = laurel.dpo(beta=0.1), laurel.preferences.pairs(rows=workload.pairs(OPTIONS.seed))
    else:
        rows = workload.demonstrations(OPTIONS.seed)
        algorithm = laurel.clone()
        tasks = laurel.tasks.from_iterable(rows, prompt="prompt", reference="completion")
    with tempfile.TemporaryDirectory() as folder:
        laurel.train(
            policy=str(OPTIONS.model),
            tasks=tasks,
            algorithm=algorithm,
            steps=steps,
            prompts_per_step=workload.rows,
            optimiser=OPTIMISER,
            checkpoint_every=steps,
            tokens_per_microbatch=TOKENS,
            seed=OPTIONS.seed,
            run=Path(folder) / "run",
            progress=record,
        )


def fitted(record: Record, steps: int) -> None:
    """Steps of a reward model."""
    workload = IMITATION[OPTIONS.workload]
    keep_freed_memory()
    model = load_reward_model(OPTIONS.model, device="cpu")
    tasks = laurel.preferences.pairs(rows=workload.pairs(OPTIONS.seed))
    learner = RewardLearner(model, BradleyTerry(), OPTIMISER, total_steps=steps, tokens_per_microbatch=TOKENS)
    cursor = tasks.cursor(OPTIONS.seed)
    record.of("reward model", steps)
    for step in range(1, steps + 1):
        chosen = cursor.next(workload.rows)
        trees = [comparison(model.trunk, judged(task), f"{step}.{index}") for index, task in enumerate(chosen)]
        record.step(step, learner.update(trees), {})


def main() -> None:
    """Learn for `warmup + steps` steps and print the report of the last `steps`."""
    torch.set_num_threads(OPTIONS.threads)
    record, steps = Record(), OPTIONS.warmup + OPTIONS.steps
    (fitted if OPTIONS.workload == "reward-model" else trained)(record, steps)
    prefix = "reward_model/" if OPTIONS.workload == "reward-model" else ""
    Report(
        system="laurel",
        workload=OPTIONS.workload,
        versions=versions(),
        settings={"tokens_per_microbatch": TOKENS},
        losses=[metrics[f"{prefix}loss"].mean for metrics in record.metrics],
        gradient_norms=[metrics[f"{prefix}gradient_norm"].mean for metrics in record.metrics],
        **record.meter.measured(OPTIONS.warmup),
    ).print()


if __name__ == "__main__":
    main()
