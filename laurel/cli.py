"""The command `laurel`. Every command is a thin cover of a function with the same name in Python."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from laurel.errors import ConfigurationError, LaurelError

app = typer.Typer(
    name="laurel",
    help="Train language models by reinforcement. Start with: laurel demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)
console = Console()

RecipeArgument = Annotated[Path, typer.Argument(help="A recipe: a YAML file with the arguments of laurel.train.")]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(help="Overrides, such as steps=10 algorithm.clip=0.3", show_default=False)
]
RunArgument = Annotated[Path, typer.Argument(help="The directory of a run.")]


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Fixes the task split, the weights, and every draw.")] = 0,
    run: Annotated[Path, typer.Option(help="Where the two runs are kept.")] = Path("runs/demo"),
    control: Annotated[bool, typer.Option(help="Clone for as long instead of reinforcing, as the control.")] = False,
) -> None:
    """From nothing to a solved task on this machine: clone a few demonstrations, then reinforce a verifiable reward.

    Exits with 1 if the held-out target is missed.
    """
    from laurel.demo import demonstrate

    raise typer.Exit(0 if demonstrate(seed=seed, directory=run, control=control, console=console) else 1)


@app.command()
def train(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of the run.")] = False,
) -> None:
    """Train as a recipe says.

    [bold]laurel train recipes/reasoning_gym.yaml steps=50 run=runs/mine[/bold]
    """
    from laurel import recipe as recipes
    from laurel.progress import Terminal
    from laurel.training import train as start

    data = recipes.read(recipe, overrides or ())
    data.setdefault("run", f"runs/{recipe.stem}")
    arguments = recipes.resolve(data, start)
    arguments["resume"] = resume or arguments.get("resume", False)
    arguments["progress"] = Terminal(console)
    try:
        finished = start(**arguments)
    except KeyboardInterrupt:
        console.print(f"\nInterrupted. Go on with: laurel train {recipe} --resume")
        raise typer.Exit(130) from None
    console.print(finished.summary(), highlight=False, markup=False)


@app.command()
def explain(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Say what a recipe would do: the method as an equation, every setting, the batch plan, memory and time."""
    from laurel import recipe as recipes
    from laurel.plan import explain as describe
    from laurel.training import train as start

    console.print(describe(recipes.resolve(recipes.read(recipe, overrides or ()), start)))


@app.command()
def check(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Before a run: every gold answer scores full marks, every wrong one does not, no prompt is in two splits.

    Exits with 1 if something is wrong.
    """
    from laurel import recipe as recipes
    from laurel.rewards import check_reward
    from laurel.tasks import check_leak
    from laurel.training import train as start

    arguments = recipes.resolve(recipes.read(recipe, overrides or ()), start, leave_out=("policy",))
    reward = arguments.get("reward")
    if reward is None:
        raise ConfigurationError("The recipe has no reward to check.", hint="add reward: ...")
    sound = True
    for name in ("tasks", "held_out"):
        if arguments.get(name) is not None:
            report = check_reward(arguments[name], reward)
            console.print(f"[bold]{name}[/bold]")
            console.print(str(report), highlight=False, markup=False)
            sound = sound and report.passed
    if arguments.get("held_out") is not None:
        check_leak(arguments["tasks"], arguments["held_out"])
        console.print("no prompt is in both tasks and held_out")
    raise typer.Exit(0 if sound else 1)


@app.command()
def eval(
    model: Annotated[str, typer.Argument(help="A model directory, a hub name, or the directory of a run.")],
    tasks: Annotated[Path, typer.Option(help="A JSONL or Parquet file.")],
    prompt: Annotated[
        str, typer.Option(help="Column of the prompt, or a template such as 'Q: {question}'.")
    ] = "prompt",
    reference: Annotated[str, typer.Option(help="Column of the gold answer.")] = "reference",
    extract: Annotated[str | None, typer.Option(help="Text after which the gold answer stands.")] = None,
    reward: Annotated[str, typer.Option(help="A reward's name or package.module:function.")] = "exact_match",
    samples: Annotated[int, typer.Option(help="Answers per task.")] = 1,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Budget of one answer.")] = 256,
    limit: Annotated[int | None, typer.Option(help="Only the first tasks.")] = None,
    seed: Annotated[int, typer.Option(help="Fixes every draw.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Write every answer here, as JSONL.")] = None,
) -> None:
    """Score a model on a file of tasks, with a 95 % interval."""
    from laurel import rewards
    from laurel import tasks as sources
    from laurel.evaluation import evaluate, write_answers
    from laurel.recipe import arguments, component, policies
    from laurel.restoring import policy_of_run
    from laurel.rollout import Limits, LocalSampler
    from laurel.runs import is_run
    from laurel.tree import Sampling

    source = "parquet" if tasks.suffix == ".parquet" else "jsonl"
    settings = {"path": str(tasks), "prompt": prompt, "reference": reference, "extract": extract}
    loaded = sources.SOURCES[source](**arguments("tasks", sources.SOURCES[source], settings))
    policy = policy_of_run(Path(model)) if is_run(Path(model)) else component("policy", policies(), model)
    sampler = LocalSampler(
        policy, Sampling(temperature=temperature), Limits(max_new_tokens=max_new_tokens), seed=seed
    )  # fmt: skip
    with rewards.Grader(component("reward", rewards.REWARDS, reward), rewards.GradingSettings()) as grader:
        result = evaluate(sampler, grader, loaded[:limit], samples=samples, name=tasks.stem)
    console.print(str(result), highlight=False)
    if output is not None:
        write_answers(output, result, loaded.by_id)
        console.print(f"answers: {output}")


@app.command()
def show(run: RunArgument) -> None:
    """The result of a run: its reward curve, evaluations, failures, and what to do next."""
    from laurel.chart import curve
    from laurel.runs import Run

    with Run.open(run) as opened:
        console.print(opened.summary(), highlight=False, markup=False)
        for name in ("reward", "loss"):
            points = [(step, metric.mean) for step, metric in opened.metric(name)]
            if points:
                console.print(curve(points, label=f"{name}, by step"), highlight=False, markup=False)


@app.command()
def export(run: RunArgument, directory: Annotated[Path, typer.Argument(help="Where the model is written.")]) -> None:
    """Write the run's newest weights as a directory that AutoModelForCausalLM.from_pretrained loads."""
    from laurel.restoring import policy_of_run

    policy_of_run(run).export(directory)
    console.print(f"written: {directory}")


@app.command()
def methods() -> None:
    """Every method by name, with its equation and its paper."""
    from laurel.algorithms import METHODS

    table = Table("name", "method", "maximises", "paper", box=None, pad_edge=False)
    for name, method in sorted(METHODS.items()):
        algorithm = method()
        table.add_row(f"[bold]{name}[/bold]", algorithm.title, algorithm.equation, algorithm.paper)
    console.print(table)


def main() -> None:
    """Run the command; errors that Laurel raises on purpose are printed without a traceback, with exit status 1."""
    try:
        app()
    except LaurelError as error:
        Console(stderr=True).print(f"[bold red]{type(error).__name__}[/bold red]: {error}", highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
