"""From nothing to a solved task on this machine: what `laurel demo` runs.

The task is to sort letters: "dhlbm>" wants "bdhlm". A decoder from scratch clones fifty demonstrations, which are too
few to generalise from: it learns the form of an answer and gets some right. Then it is reinforced on prompts without
answers, paid 1 for a sorted answer and 0 for any other, until it sorts letters that it never saw together.
"""

from __future__ import annotations

import itertools
import random
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

import laurel
from laurel.chart import curve
from laurel.evaluation import Evaluation, interval_text
from laurel.metrics import Metric
from laurel.policy import Policy
from laurel.progress import Terminal
from laurel.rewards import exact_match
from laurel.runs import Run
from laurel.tasks import Task, TaskSet
from laurel.tree import Sampling

LETTERS = "abcdefghijklmnop"
FEWEST, MOST = 4, 7
DEMONSTRATIONS, TRAINING, HELD_OUT = 50, 3000, 400
CLONE_STEPS, REINFORCE_STEPS = 100, 250
TARGET = 0.95
# Above this, cloning alone would have solved the task and the demo would show nothing.
MOST_AFTER_CLONING = 0.45
GREEDY = Sampling(top_k=1)
SHOWN_ANSWERS = 3


@dataclass(frozen=True)
class Result:
    """Held-out scores of one demo.

    Attributes:
        before, after: share of right answers after cloning and after reinforcing.
        control: after cloning for as long instead of reinforcing; None where that was not asked for.
        seconds: how long reinforcing took.
    """

    before: Metric
    after: Metric
    control: Metric | None
    seconds: float

    @property
    def met(self) -> bool:
        """Whether reinforcement solved what cloning had not."""
        return self.after.mean >= TARGET and self.before.mean <= MOST_AFTER_CLONING


@dataclass(frozen=True)
class Splits:
    """Three sets of tasks that share no set of letters, so that no answer of one is an answer of another."""

    demonstrations: TaskSet
    training: TaskSet
    held_out: TaskSet


def sorting_tasks(seed: int) -> Splits:
    """Distinct letters in random order; every set of letters appears once, in one of the three sets."""
    generator = random.Random(seed)
    prompts: dict[str, str] = {}
    while len(prompts) < DEMONSTRATIONS + TRAINING + HELD_OUT:
        letters = "".join(generator.sample(LETTERS, generator.randint(FEWEST, MOST)))
        prompts.setdefault("".join(sorted(letters)), letters)
    tasks = iter([Task(letters, f"{letters}>", answer) for answer, letters in prompts.items()])
    sizes = {"demonstrations": DEMONSTRATIONS, "training": TRAINING, "held out": HELD_OUT}
    return Splits(*(TaskSet(name, tuple(itertools.islice(tasks, size))) for name, size in sizes.items()))


def demo(
    *,
    seed: int = 0,
    run: str | Path = "runs/demo",
    control: bool = False,
    resume: bool = False,
    console: Console | None = None,
) -> Result:
    """Clone, reinforce, report.

    Args:
        seed: fixes the task split, the weights, and every draw.
        run: where the two runs are kept; one that is there already is left alone, and a number added.
        control: also clone on for as long as reinforcing took.
        resume: go on with a demo that was interrupted in `run`, instead of starting beside it.
        console: where it is shown; None: in the terminal.
    """
    console = console or Console()
    directory = Path(run) if resume else _free(Path(run))
    try:
        return _demo(seed, directory, control, resume, console)
    except KeyboardInterrupt:
        again = ["laurel", "demo", "--run", str(directory), *(["--seed", str(seed)] if seed else ())]
        again += [*(["--control"] if control else ()), "--resume"]
        text = f"\nInterrupted. What was done is kept in {directory}. Go on with: {shlex.join(again)}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
        raise


def _demo(seed: int, directory: Path, control: bool, resume: bool, console: Console) -> Result:
    splits = sorting_tasks(seed)
    policy = laurel.policy.tiny(alphabet=f"{LETTERS}>", hidden_size=64, layers=2, heads=4, context_length=32, seed=seed)
    console.print(
        f"Sort letters: '{splits.held_out[0].prompt}' wants '{splits.held_out[0].reference}'. "
        f"{policy.parameter_count:,} parameters, from scratch, on {policy.device.type}.\n"
        f"1. Clone {DEMONSTRATIONS} demonstrations.  2. Reinforce on {TRAINING:,} prompts without answers.  "
        f"3. Judge on {HELD_OUT} others.\n",
        highlight=False,
    )
    _clone(policy, splits, directory / "clone", CLONE_STEPS, seed, console, resume)
    cloned = {name: tensor.clone() for name, tensor in policy.tensors().items()}
    started = time.monotonic()
    run = laurel.train(
        policy=policy,
        tasks=splits.training,
        held_out=splits.held_out,
        reward=exact_match(),
        algorithm=laurel.grpo(),
        steps=REINFORCE_STEPS,
        prompts_per_step=32,
        samples_per_prompt=8,
        limits=laurel.Limits(max_new_tokens=MOST + 2),
        evaluation_sampling=GREEDY,
        optimiser=laurel.OptimiserSettings(
            learning_rate=5e-4, betas=(0.9, 0.99), schedule="linear", warmup_steps=5, maximum_gradient_norm=1.0
        ),
        evaluate_every=REINFORCE_STEPS,
        checkpoint_every=50,
        seed=seed,
        run=directory / "reinforce",
        resume=resume,
        progress=Terminal(console),
    )
    # Of a demo that was interrupted, what its steps took; the clock of the first part is gone.
    seconds = _step_seconds(run) if resume else time.monotonic() - started
    before, after = (evaluation.metric for evaluation in run.evaluations())
    result = Result(before, after, None, seconds)
    _report(run, result, console)
    if control:
        policy.load_tensors(cloned)
        result = replace(result, control=_control(policy, splits, directory, seconds, seed, console, resume))
    return result


def _clone(
    policy: Policy, splits: Splits, directory: Path, steps: int, seed: int, console: Console, resume: bool
) -> Run:
    return laurel.train(
        policy=policy,
        tasks=splits.demonstrations,
        algorithm=laurel.clone(),
        steps=steps,
        prompts_per_step=DEMONSTRATIONS,
        optimiser=laurel.OptimiserSettings(learning_rate=1e-3),
        checkpoint_every=steps,
        seed=seed,
        run=directory,
        resume=resume,
        progress=Terminal(console),
    )


def _report(run: Run, result: Result, console: Console) -> None:
    rewards = [(step, metric.mean) for step, metric in run.metric("reward")]
    console.print()
    console.print(curve(rewards, low=0, high=1, label="reward on the training prompts, by step"), highlight=False)
    console.print(f"\n{'prompt':<10}{'before':<11}{'after':<11}right answer", highlight=False)
    early, late = (run.evaluation_trees("held_out", step) for step in (0, REINFORCE_STEPS))
    pairs = [(a.rollouts[0], b.rollouts[0]) for a, b in zip(early, late, strict=True)]
    changed = [pair for pair in pairs if pair[0].text != pair[1].text] or pairs
    for first, last in changed[:SHOWN_ANSWERS]:
        prompt = first.segments[0].text
        right = "".join(sorted(prompt.removesuffix(">")))
        console.print(f"{prompt:<10}{first.text:<11}{last.text:<11}{right}", highlight=False, markup=False)
    console.print(f"\nheld out, after cloning:     {interval_text(result.before)}", highlight=False)
    console.print(f"held out, after reinforcing: {interval_text(result.after)}", highlight=False)
    console.print(f"reinforced in {result.seconds:.0f} s; the run is in {run.directory}", highlight=False)
    if result.met:
        console.print(
            f"[bold green]Solved:[/bold green] at least {TARGET:.0%} on letters that it never saw together.\n\n"
            f"Next:  laurel show {run.directory}\n"
            f"       laurel export {run.directory} my-model\n"
            f"       laurel train recipes/reasoning_gym.yaml",
            highlight=False,
        )
    else:
        console.print(
            f"[bold red]Missed:[/bold red] wanted at most {MOST_AFTER_CLONING:.0%} after cloning and at least "
            f"{TARGET:.0%} after reinforcing.",
            highlight=False,
        )


def _step_seconds(run: Run) -> float:
    return sum(sum(run.timings(step).values()) for step in run.steps())


def _control(
    policy: Policy, splits: Splits, directory: Path, seconds: float, seed: int, console: Console, resume: bool
) -> Metric:
    """Clone on, on the same demonstrations, for as long as reinforcing took; then judge in the same way."""
    with Run.open(directory / "clone") as clone:
        per_step = _step_seconds(clone) / CLONE_STEPS
    steps = max(1, round(seconds / per_step))
    console.print(f"\nControl: {steps:,} more steps of cloning the same demonstrations, for the same time.")
    _clone(policy, splits, directory / "control", steps, seed, console, resume)
    result = _judge(policy, splits, seed)
    console.print(f"held out, after cloning on:  {interval_text(result.metric)}", highlight=False)
    return result.metric


def _judge(policy: Policy, splits: Splits, seed: int) -> Evaluation:
    sampler = laurel.rollout.LocalSampler(policy, GREEDY, laurel.Limits(max_new_tokens=MOST + 2), seed=seed)
    with laurel.rewards.Grader(exact_match()) as grader:
        return laurel.evaluate(sampler, grader, splits.held_out)


def _free(directory: Path) -> Path:
    """The directory, or the first free one with a number behind it: a demo never touches an earlier one."""
    numbered = (directory.with_name(f"{directory.name}-{number}") for number in itertools.count(2))
    return next(free for free in itertools.chain([directory], numbered) if not free.exists())
