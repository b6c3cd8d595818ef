"""The commands of models that judge and revise; `laurel.cli` has them among its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()


def judge(
    questions: Annotated[
        Path, typer.Argument(help="JSONL or Parquet: prompt and answers, or what eval --output wrote.")
    ],
    judge: Annotated[str, typer.Option(help="Who judges: a hub name or the directory of a model.")],
    output: Annotated[Path, typer.Option(help="The file of labels; it grows.")],
    principles: Annotated[
        Path | None, typer.Option(help="A constitution: YAML, JSON, or text with one principle per line.")
    ] = None,
    every_principle: Annotated[
        bool, typer.Option("--every-principle", help="Ask by each principle and average; else one is drawn.")
    ] = False,
    disagreement: Annotated[
        str, typer.Option(help="Where the verdict turns with the order: average, tie or skip.")
    ] = "average",
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many labels.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes which principle is drawn for a pair.")] = 0,
) -> None:
    """Let a model say which of two answers is better, each pair in both orders, and measure how it goes by the place.

    The labels are those of laurel label: learn from them with the source rankings and ranks=ranks. What is labelled
    already is not asked again: the same command goes on.

    [bold]laurel eval my-model --tasks test.jsonl --samples 2 --output answers.jsonl[/bold]

    [bold]laurel judge answers.jsonl --judge my-judge --output labels.jsonl[/bold]
    """
    from laurel.judge_labels import judge as ask
    from laurel.policy import Comparison

    given = None if principles is None else str(principles)
    comparison = Comparison(principles=given, every_principle=every_principle, seed=seed)
    try:
        result = ask(
            questions,
            output,
            judge,
            comparison=comparison,
            disagreement=disagreement,  # type: ignore[arg-type]  # it is checked there
            limit=limit,
            seed=seed,
            show=_tell,
        )
    except KeyboardInterrupt:
        _tell(f"\nInterrupted. What was judged is in {output}.")
        raise typer.Exit(130) from None
    _tell(str(result))
    if result.bias is None and result.failed:
        raise typer.Exit(1)


def revise(
    model: Annotated[str, typer.Argument(help="Who answers, criticises and revises: a hub name or a directory.")],
    tasks: Annotated[Path, typer.Option(help="A JSONL or Parquet file of prompts.")],
    output: Annotated[Path, typer.Option(help="The file of revised answers, JSONL; it grows.")],
    prompt: Annotated[
        str, typer.Option(help="Column of the prompt, or a template such as 'Q: {question}'.")
    ] = "question",
    principles: Annotated[
        Path | None, typer.Option(help="A constitution: YAML, JSON, or text with one principle per line.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, help="Of critique and revision.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token everywhere.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Budget of every text.")] = 256,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many answers.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes every draw and which principle is taken.")] = 0,
) -> None:
    """Let a model answer, criticise its answer by a principle and revise it: demonstrations that nobody wrote.

    Every text on the way is kept. What is answered already is not answered again: the same command goes on.

    [bold]laurel revise my-model --tasks prompts.jsonl --principles constitution.yaml --output revised.jsonl[/bold]

    Then: tasks: {name: jsonl, path: revised.jsonl, prompt: prompt, reference: answer} and algorithm: clone.
    """
    from laurel.revising import revise as start
    from laurel.tasks import SOURCES

    source = SOURCES["parquet" if tasks.suffix == ".parquet" else "jsonl"]
    try:
        result = start(
            model,
            source(str(tasks), prompt=prompt, reference=None),
            output,
            principles=principles,
            rounds=rounds,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            limit=limit,
            seed=seed,
            show=_tell,
        )
    except KeyboardInterrupt:
        _tell(f"\nInterrupted. What was revised is in {output}.")
        raise typer.Exit(130) from None
    _tell(str(result))


def _tell(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
