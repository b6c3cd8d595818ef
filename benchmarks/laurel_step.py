"""Time whole steps of `laurel.train` with GRPO on one workload.

The step is the product's: every tree with every token is also written to the run's database within it, which the
TRL side, told to log and save nothing, does not do.
"""

import tempfile
from pathlib import Path

from protocol import Report, arguments, set_threads
from workloads import WORKLOADS, vowel_fraction

PARSER = arguments(__doc__.splitlines()[0])
OPTIONS = PARSER.parse_args()
set_threads(OPTIONS.threads)

import torch  # noqa: E402
from laurel_process import Record, versions  # noqa: E402

import laurel  # noqa: E402
from laurel.tree import Source, Tree  # noqa: E402


@laurel.rewards.in_process
def reward(task: laurel.tasks.Task, text: str) -> float:
    """The shared reward, in the form that Laurel calls."""
    return vowel_fraction(text)


def answer_tokens(tree: Tree) -> list[int]:
    """The length of each answer of one prompt, its end token included."""
    return [
        sum(len(segment) for segment in rollout.segments if segment.source is Source.POLICY)
        for rollout in tree.rollouts
    ]


def main() -> None:
    """Train for `warmup + steps` steps and print the report of the last `steps`."""
    torch.set_num_threads(OPTIONS.threads)
    workload = WORKLOADS[OPTIONS.workload]
    steps = OPTIONS.warmup + OPTIONS.steps
    record = Record()
    prompts = [{"question": prompt} for prompt in workload.prompts(steps, OPTIONS.seed)]
    with tempfile.TemporaryDirectory() as folder:
        run = laurel.train(
            policy=str(OPTIONS.model),
            tasks=laurel.tasks.from_iterable(prompts, reference=None),
            reward=reward,
            algorithm=laurel.grpo(clip=0.2),
            steps=steps,
            prompts_per_step=workload.prompts_per_step,
            samples_per_prompt=workload.samples_per_prompt,
            limits=laurel.Limits(max_new_tokens=workload.max_new_tokens),
            optimiser=laurel.OptimiserSettings(learning_rate=OPTIONS.learning_rate, maximum_gradient_norm=1.0),
            checkpoint_every=steps,
            seed=OPTIONS.seed,
            run=Path(folder) / "run",
            progress=record,
        )
        timed = range(OPTIONS.warmup + 1, steps + 1)
        lengths = [[length for tree in run.trees(step) for length in answer_tokens(tree)] for step in timed]
    kept = slice(OPTIONS.warmup, None)
    Report(
        system="laurel",
        workload=workload.name,
        versions=versions(),
        settings={},
        sampling_seconds=[timings["gather_seconds"] for timings in record.timings][kept],
        answer_tokens=lengths,
        mean_reward=[metrics["reward"].mean for metrics in record.metrics][kept],
        **record.meter.measured(OPTIONS.warmup),
    ).print()


if __name__ == "__main__":
    main()
