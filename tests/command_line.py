"""The command `laurel`, called in this process, on a task that takes milliseconds: two digits to be added."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from laurel import cli

RECIPE = """\
policy: {name: tiny, alphabet: "0123456789>", hidden_size: 16, layers: 1, heads: 2, context_length: 8}
tasks: {name: jsonl, path: train.jsonl}
held_out: {name: jsonl, path: held.jsonl}
reward: exact_match
algorithm: grpo
steps: 4
prompts_per_step: 4
samples_per_prompt: 4
limits: {max_new_tokens: 3}
checkpoint_every: 2
run: runs/sums
"""


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    status: int
    out: str
    err: str


def laurel(*arguments: str) -> Said:
    """Run a command as the entry point does."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main(arguments)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Said(status, out.getvalue(), err.getvalue())


def rows(numbers: Iterable[int]) -> list[dict[str, str]]:
    return [{"question": f"{number:02d}>", "answer": str(number // 10 + number % 10)} for number in numbers]


def write_rows(path: Path, written: Iterable[object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in written))


def write_project(folder: Path) -> None:
    """A recipe with its two task files."""
    write_rows(folder / "train.jsonl", rows(range(40)))
    write_rows(folder / "held.jsonl", rows(range(40, 50)))
    (folder / "recipe.yaml").write_text(RECIPE)
