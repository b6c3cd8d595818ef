"""The command `laurel`. Every command is a thin cover of a function with the same name in Python."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from laurel.errors import ConfigurationError, LaurelError
from laurel.judge_commands import judge, revise

if TYPE_CHECKING:
    from laurel.runs import Run

app = typer.Typer(
    name="laurel",
    help="Train language models by reinforcement. Start with: laurel demo",
    epilog="A recipe from start to end:  check, explain, train, show, eval, export.  "
    "Each command says more with --help, for example: laurel train --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)
console = Console()
_debugging = ContextVar("debugging", default=False)

RecipeArgument = Annotated[Path, typer.Argument(help="A recipe: a YAML file with the arguments of laurel.train.")]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(help="Overrides, such as steps=10 algorithm.clip=0.3", show_default=False)
]
RunArgument = Annotated[Path, typer.Argument(help="The directory of a run.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of the run.")]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Stop at the first row of preferences that cannot be used.")
]


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from, as a traceback too.")] = False,
) -> None:
    """Train language models by reinforcement. Start with: laurel demo"""
    _debugging.set(debug)


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Fixes the task split, the weights, and every draw.")] = 0,
    run: Annotated[Path, typer.Option(help="Where the two runs are kept.")] = Path("runs/demo"),
    control: Annotated[bool, typer.Option(help="Clone for as long instead of reinforcing, as the control.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted demo in --run.")] = False,
) -> None:
    """From nothing to a solved task on this machine: clone a few demonstrations, then reinforce a verifiable reward.

    Exits with 1 if the held-out target is missed.

    [bold]laurel demo[/bold]   (minutes on two cores, no GPU, nothing is downloaded)
    """
    from laurel.demonstration import demo as demonstrate

    try:
        result = demonstrate(seed=seed, run=run, control=control, resume=resume, console=console)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(0 if result.met else 1)


@app.command()
def train(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    resume: ResumeOption = False,
    strict: StrictOption = False,
) -> None:
    """Train as a recipe says. What was interrupted goes on with --resume, as if nothing had happened.

    Rows of preferences that cannot be used are left out, counted and named, unless --strict is given.

    [bold]laurel train recipes/gsm8k.yaml[/bold]

    [bold]laurel train recipes/gsm8k.yaml policy=my-model algorithm.clip=0.3 steps=50 run=runs/mine[/bold]

    [bold]laurel train recipes/gsm8k.yaml --resume[/bold]
    """
    from laurel.training import train as start

    finished, arguments = _finished("train", start, recipe, overrides, resume=resume, strict=strict)
    if finished.resumed_from is not None and finished.resumed_from >= arguments.get("steps", 0):
        console.print(f"All {finished.resumed_from} steps were done already; steps=... goes further.", highlight=False)
    console.print(str(finished.summary()), highlight=False, markup=False, soft_wrap=True)


@app.command()
def fit_reward_model(
    recipe: Annotated[Path, typer.Argument(help="A YAML file with the arguments of laurel.fit_reward_model.")],
    overrides: OverridesArgument = None,
    resume: ResumeOption = False,
    strict: StrictOption = False,
) -> None:
    """Fit a reward model to answers that somebody compared, ranked, rated or gave a thumb.

    Rows that cannot be used are left out, counted and named. With held_out answers it says how often the model is right
    about them, and whether it is as sure as it is right. What was fitted stands below the run as model/, which
    AutoModelForSequenceClassification loads; any online method takes the run as its reward.

    [bold]laurel fit-reward-model recipes/reward_model.yaml[/bold]

    [bold]laurel fit-reward-model recipes/reward_model.yaml members=3 share=0.8 run=runs/judge[/bold]

    [bold]laurel train recipe.yaml reward=runs/judge[/bold]   or reward.pessimism=1 beside reward.model=runs/judge
    """
    from laurel.fitting import fit_reward_model as fit

    finished, _ = _finished("fit-reward-model", fit, recipe, overrides, resume=resume, strict=strict)
    console.print(str(finished.summary()), highlight=False, markup=False, soft_wrap=True)
    for event in finished.events("calibration")[-1:]:
        console.print(event.text, highlight=False, markup=False, soft_wrap=True)


@app.command()
def rlhf(
    recipe: Annotated[Path, typer.Argument(help="A YAML file with the arguments of laurel.rlhf.")],
    overrides: OverridesArgument = None,
    strict: StrictOption = False,
) -> None:
    """Reinforcement learning from human feedback: clone, fit a reward model, reinforce; three runs in one directory.

    A gold reward is kept aside: it judges along the way and is never trained on, so that the report shows whether the
    reward model was over-optimised, with best-of-n as the control. The same command goes on where it was stopped.

    [bold]laurel rlhf recipes/rlhf.yaml[/bold]

    [bold]laurel rlhf recipes/rlhf.yaml labels.pairs=2000 reward_model.members=3 pessimism=1 run=runs/careful[/bold]
    """
    from laurel.human_feedback import rlhf as start
    from laurel.progress import Terminal
    from laurel.recipe import load

    arguments = {**load(recipe, _strictly(recipe, overrides, strict), start), "progress": Terminal(console)}
    try:
        report = start(**arguments)
    except KeyboardInterrupt:
        again = _again("rlhf", recipe, overrides, strict)
        console.print(f"\nInterrupted. Go on with: {again}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    console.print(f"\n{report}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def explain(recipe: RecipeArgument, overrides: OverridesArgument = None) -> None:
    """Say what a recipe would do: the method as an equation, every setting, the batch plan, memory and time.

    Nothing is trained or written. It refuses what training would refuse. Recipes of laurel fit-reward-model and of
    laurel rlhf are known by their keys.

    [bold]laurel explain recipes/gsm8k.yaml samples_per_prompt=16[/bold]

    [bold]laurel explain recipes/rlhf.yaml reward_model.members=3[/bold]
    """
    from laurel.explaining import explain as describe

    console.print(describe(recipe, overrides or ()), highlight=False)


@app.command()
def check(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    gold: Annotated[
        str, typer.Option(help="How a right answer is written, over {reference} and the row's columns.")
    ] = "{reference}",
    strict: StrictOption = False,
) -> None:
    """Before a run: the prompts reach the policy, the reward tells right from wrong, no prompt is in two splits.

    Every gold answer must score full marks, and no wrong one. Where an environment pays, a few episodes are tried.
    Of a reward model: every judged answer is read. Of rlhf: also what the gold reward says of a few answers.
    Exits with 1 if something is wrong.

    [bold]laurel check recipes/gsm8k.yaml[/bold]
    [bold]laurel check recipe.yaml --gold "#### {reference}"[/bold]   for a reward that wants the marker
    [bold]laurel check recipes/rlhf.yaml[/bold]   or recipes/reward_model.yaml
    """
    from laurel.checking import check as examine

    report = examine(recipe, _strictly(recipe, overrides, strict), gold=gold)
    console.print(str(report), highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(0 if report.passed else 1)


@app.command()
def inspect_reward(
    source: Annotated[str, typer.Argument(help="A run that recovered or fitted a reward, or a directory of one.")],
    prompt: Annotated[str, typer.Argument(help="What was asked.")],
    answers: Annotated[list[str], typer.Argument(help="One answer or more.")],
) -> None:
    """Show what a reward says of answers, the best first; token by token where it has shares (airl, iq_learn).

    [bold]laurel inspect-reward runs/airl "What is 2 + 2?" 4 5[/bold]
    """
    from laurel.inspecting import inspect_reward as inspect

    console.print(inspect(source, prompt, answers), highlight=False)


@app.command()
def eval(
    model: Annotated[str, typer.Argument(help="A model directory, a hub name, or the directory of a run.")],
    tasks: Annotated[Path, typer.Option(help="A JSONL or Parquet file.")],
    prompt: Annotated[
        str | None, typer.Option(help="Column of the prompt (question), or a template such as 'Q: {question}'.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Column of the gold answer (answer).")] = None,
    extract: Annotated[str | None, typer.Option(help="Text after which the gold answer stands.")] = None,
    reward: Annotated[
        str | None, typer.Option(help="A reward's name or package.module:function (exact_match, or the run's).")
    ] = None,
    conversation: Annotated[
        bool, typer.Option("--conversation", help="Ask as the user, by the chat template.")
    ] = False,
    samples: Annotated[int | None, typer.Option(min=1, help="Answers per task (1, or the run's).")] = None,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature (1.0, or the run's).")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from so many likeliest tokens; 1 is greedy.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the likeliest tokens of this mass.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Draw from tokens of this part of the greatest.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Budget of one answer (256, or the run's).")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Text that ends an answer; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first tasks.")] = None,
    max_live_rows: Annotated[int | None, typer.Option(min=1, help="Answers drawn at the same time (256).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Fixes every draw (0, or the run's).")] = None,
    output: Annotated[Path | None, typer.Option(help="Write every answer here, as JSONL.")] = None,
) -> None:
    """Score a model on a file of tasks, with a 95 % interval.

    A run is judged as its held-out tasks were, from its record: the same file gives the score of its last evaluation.

    [bold]laurel eval runs/mine --tasks test.jsonl --reward numeric_answer[/bold]

    [bold]laurel eval my-model --tasks test.jsonl --prompt "Q: {question} A:" --output answers.jsonl[/bold]
    """
    from laurel.evaluation import check_output, write_answers
    from laurel.judging import eval as judge
    from laurel.recipe import arguments
    from laurel.tasks import SOURCES

    if output is not None:
        check_output(output)
    source = SOURCES["parquet" if tasks.suffix == ".parquet" else "jsonl"]
    given = {"prompt": prompt, "reference": reference, "extract": extract, "limit": limit}
    columns = {name: value for name, value in given.items() if value is not None}
    loaded = source(**arguments("tasks", source, {"path": str(tasks), "conversation": conversation, **columns}))
    result = judge(
        model,
        loaded,
        reward=reward,
        samples=samples,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        max_new_tokens=max_new_tokens,
        stop=stop or None,
        max_live_rows=max_live_rows,
        seed=seed,
        name=tasks.stem,
    )
    console.print(str(result), highlight=False, markup=False)
    if output is not None:
        write_answers(output, result, loaded.by_id)
        console.print(f"answers: {output}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def label(
    questions: Annotated[
        Path, typer.Argument(help="JSONL or Parquet: prompt and answers, or what eval --output wrote.")
    ],
    output: Annotated[Path, typer.Option(help="The file of labels; it grows, a line for each.")],
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many labels.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes which answer stands first.")] = 0,
) -> None:
    """Say which of two answers is better, by single keys. Every label is on the disk before the next question.

    What is labelled already is not asked again: the same command goes on. Learn from it with the source rankings and
    ranks=ranks.

    [bold]laurel eval my-model --tasks test.jsonl --samples 2 --output answers.jsonl[/bold]

    [bold]laurel label answers.jsonl --output labels.jsonl[/bold]
    """
    from laurel.preferences import label as ask

    try:
        result = ask(questions, output, limit=limit, seed=seed)
    except KeyboardInterrupt:
        console.print(f"\nInterrupted. Every label that was given is in {output}.", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    console.print(str(result), highlight=False, markup=False, soft_wrap=True)


app.command()(judge)
app.command()(revise)


@app.command()
def show(run: RunArgument) -> None:
    """The result of a run: its reward curve, evaluations, failures, and what to do next. Also while it goes on.

    [bold]laurel show runs/mine[/bold]
    """
    from laurel.showing import show as page

    console.print(page(run), soft_wrap=True, highlight=False)


@app.command()
def export(run: RunArgument, directory: Annotated[Path, typer.Argument(help="Where the model is written.")]) -> None:
    """Write the run's newest weights as a directory that AutoModelForCausalLM.from_pretrained loads.

    Of a reward model: what AutoModelForSequenceClassification.from_pretrained loads.

    [bold]laurel export runs/mine my-model[/bold]
    """
    from laurel.restoring import export as write

    console.print(f"written: {write(run, directory)}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def methods() -> None:
    """Every method by name, with its equation, its paper and its settings."""
    from laurel.plan import methods as cards

    console.print(cards(), highlight=False)


@app.command()
def parts(
    kind: Annotated[
        str | None, typer.Argument(help="A key of a recipe: reward, tasks, environment, algorithm, policy ...")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One of that kind.")] = None,
) -> None:
    """What a recipe can name: rewards, environments, tasks and more; of a kind, or of one part, with settings.

    [bold]laurel parts reward numeric_answer[/bold]
    """
    from laurel.listing import parts as page

    console.print(page(kind, name), highlight=False)


@app.command()
def audit(
    method: Annotated[str, typer.Argument(help="A method by name; laurel methods lists them.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Its settings, such as ddof=1 clip=0.3", show_default=False)
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Rollouts per prompt.")] = 2,
) -> None:
    """The exact bias and variance of a method's gradient, by listing everything that a small policy can sample.

    scale and cosine 1, bias 0: the exact gradient of the expected reward. Noise is per unit of signal.

    [bold]laurel audit grpo ddof=1 --samples 3[/bold]
    """
    from laurel.algorithms import METHODS
    from laurel.recipe import assignments, component
    from laurel.theory import audit as measure

    algorithm = component("algorithm", METHODS, {**assignments(settings or ()), "name": method})
    if algorithm.regularisers or algorithm.penalties:
        raise ConfigurationError(
            "'kl', 'entropy' and 'constraint' would not be read: an audit compares with the return's gradient alone.",
            hint="leave them out.",
        )
    found = measure(algorithm, samples=samples)
    console.print(str(found), highlight=False, markup=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; errors that Laurel raises on purpose are printed with exit status 1.

    Without a traceback, unless `--debug` stands before the command: what somebody's own function raised is in it.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a recipe may name functions of modules that lie where it is run
    try:
        app(arguments, prog_name="laurel")
    except LaurelError as error:
        if _debugging.get():
            traceback.print_exception(error)
        shown = Console(stderr=True)
        text = Text.assemble((type(error).__name__, "bold red"), f": {error}")
        for note in getattr(error, "__notes__", ()):
            text.append(f"\n  {note}")
        shown.print(text, highlight=False, soft_wrap=not shown.is_terminal)
        sys.exit(1)


def _finished(
    command: str,
    start: Callable[..., Run],
    recipe: Path,
    overrides: Sequence[str] | None,
    *,
    resume: bool,
    strict: bool,
) -> tuple[Run, dict[str, Any]]:
    """The run that a recipe of `start` asks for, and what it was started with; `command` goes on with it."""
    from laurel.progress import Terminal
    from laurel.recipe import load

    arguments = load(recipe, _strictly(recipe, overrides, strict), start)
    _say_left_out(arguments)
    arguments["resume"] = resume or arguments.get("resume", False)
    arguments["progress"] = Terminal(console)
    again = _again(command, recipe, overrides, strict, "--resume")
    with _told_how_to_go_on(again, Path(arguments["run"])):
        return start(**arguments), arguments


def _again(command: str, recipe: Path, overrides: Sequence[str] | None, strict: bool, *more: str) -> str:
    """The line that goes on with what a recipe started."""
    flags = ["--strict"] if strict else []
    return shlex.join(["laurel", command, str(recipe), *(overrides or ()), *flags, *more])


def _strictly(recipe: Path, overrides: Sequence[str] | None, strict: bool) -> list[str]:
    """The overrides, and with `strict` those that make every source of preferences in the recipe strict."""
    from laurel.preferences import SOURCES
    from laurel.recipe import read

    written = read(recipe, overrides or ()) if strict else {}
    chosen = list(overrides or ())
    parts = {"": written, "clone.": written.get("clone"), "reward_model.": written.get("reward_model")}
    for where, part in parts.items():
        for name in ("tasks", "held_out"):
            source = part.get(name) if isinstance(part, dict) else None
            if isinstance(source, dict) and source.get("name") in SOURCES:
                chosen.append(f"{where}{name}.strict=true")
    if strict and len(chosen) == len(overrides or ()):
        raise ConfigurationError(
            f"--strict would not be read: {recipe} reads no preferences.", hint="other tasks stop at a bad row anyway."
        )
    return chosen


def _say_left_out(arguments: Mapping[str, Any]) -> None:
    """Rows of preference files that could not be used."""
    for name in ("tasks", "held_out"):
        left_out = getattr(arguments.get(name), "left_out", None)
        if left_out is not None and left_out.count:
            console.print(f"{name}: {left_out}", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _told_how_to_go_on(again: str, run: Path) -> Iterator[None]:
    """What stops a run is followed by the command that goes on with it."""
    try:
        yield
    except KeyboardInterrupt:
        console.print(f"\nInterrupted. Go on with: {again}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    except LaurelError as error:
        if _stopped_by(error, run):
            error.add_note(f"Then go on with: {again}")
        raise


def _stopped_by(error: LaurelError, run: Path) -> bool:
    """Whether this error ended the run, which is there to be resumed; others come before there is a run."""
    from laurel.runs import Run, is_run

    if not is_run(run):
        return False
    with Run.open(run) as opened:
        return opened.status.state == "failed" and error.message in opened.status.reason


if __name__ == "__main__":
    main()
