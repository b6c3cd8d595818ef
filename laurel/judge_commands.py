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


def _tell(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
