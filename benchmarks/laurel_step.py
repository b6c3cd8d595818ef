"""Time whole steps of `laurel.train` with GRPO on one workload.

The step is the product's: every tree with every token is also written to the run's database within it, which the
TRL side, told to log and save nothing, does not do.
"""

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from protocol import Meter, Report, arguments, set_threads
from workloads import WORKLOADS, vowel_fraction

PARSER = arguments(__doc__.splitlines()[0])
OPTIONS = PARSER.parse_args()
set_threads(OPTIONS.threads)

import torch  # noqa: E402

import laurel  # noqa: E402
from laurel.metrics import Metric  # noqa: E402
from laurel.progress import Silent  # noqa: E402
from laurel.tree import Source, Tree  # noqa: E402


class Record(Silent):
    """A lap at the end of every step; the first one counts from the start of the loop."""

    def __init__(self) -> None:
        self.laps: list[tuple[float, float]] = []
        self.sampling_seconds: list[float] = []
        self.mean_reward: list[float] = []

    def of(self, title: str, steps: int) -> "Record":
        """Called once the model and the tasks are loaded."""
        self.meter = Meter()
        return self

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *error: object) -> None: ...

    def step(self, step: int, metrics: Mapping[str, Metric], timings: Mapping[str, float]) -> None:
        """Called when the optimiser has stepped and the step is recorded."""
        self.laps.append(self.meter.lap())
        self.peak_bytes = self.meter.peak_bytes()
        self.sampling_seconds.append(timings["gather_seconds"])
        self.mean_reward.append(metrics["reward"].mean)


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
        versions={"laurel": laurel.__version__, **{name: version(name) for name in ("transformers", "torch")}},
        settings={},
        step_seconds=[wall for wall, _ in record.laps][kept],
        sampling_seconds=record.sampling_seconds[kept],
        cpu_seconds=[processor for _, processor in record.laps][kept],
        answer_tokens=lengths,
        mean_reward=record.mean_reward[kept],
        resident_before_bytes=record.meter.resident_before_bytes,
        resident_peak_bytes=record.peak_bytes,
    ).print()


if __name__ == "__main__":
    main()
