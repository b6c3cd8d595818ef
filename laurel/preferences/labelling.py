"""A person who labels pairs of answers in a terminal, by single keys; every label is on the disk before the next pair.

laurel label answers.jsonl --output labels.jsonl
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from laurel.errors import TaskError
from laurel.preferences.labels import RANKS, Labels
from laurel.preferences.left_out import Fault, LeftOut
from laurel.preferences.preference import Preference
from laurel.preferences.sources import PreferenceSet, numbered_rows, pairs, rankings
from laurel.preferences.teachers import Query
from laurel.preferences.terminal import KEYS, QUIT, UNDO, keyboard, legend, pressed_key, shown, single_keys
from laurel.tasks.files import parsed
from laurel.tasks.task import Prompt, Task


@dataclass(frozen=True)
class Labelled:
    """What a sitting came to.

    Attributes:
        output: where the labels are.
        new, before: labels of this sitting, and of earlier ones.
        left: questions that are still open.
        left_out: rows of the questions' file that could not be used.
        said: how often each verdict stands in the file.
    """

    output: Path
    new: int
    before: int
    left: int
    left_out: LeftOut
    said: Mapping[float | None, int]

    def __str__(self) -> str:
        first, second, equal, skipped = (self.said.get(verdict, 0) for verdict in (1.0, 0.0, 0.5, None))
        text = (
            f"{self.new} labels more, {self.new + self.before} in {self.output}: {first} for the first, {second} for "
            f"the second, {equal} equal, {skipped} skipped. {self.left} questions are left."
        )
        return f"{text}\nquestions: {self.left_out}" if self.left_out.count else text


def label(
    questions: str | Path,
    output: str | Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    press: Callable[[], str] | None = None,
    show: Callable[[str], None] = print,
) -> Labelled:
    """Ask a person which of two answers is better, and keep what was said.

    Questions that `output` has the answer to are not asked again, so that a sitting goes on where the last one ended.
    Which answer stands first is drawn by lot. "u" takes the last label of this sitting back and asks again; "q", Ctrl-C
    and Ctrl-D end the sitting. Each label is on the disk before the next question.

    Args:
        questions: JSONL or Parquet rows of `prompt` and `answers` (every two of them are a question), of `chosen` and
            `rejected`, or of `task`, `prompt` and `answer`, as `laurel eval --samples 2 --output` writes them.
        output: where the labels go (`laurel.preferences.Labels`); it grows.
        limit: end after so many labels.
        seed: fixes which answer stands first.
        press: returns one key, "" at the end of the input; None: the keyboard.
        show: prints a text.

    Raises:
        TaskError: the questions cannot be read, or the labels cannot be written.
    """
    asked, left_out = questions_of(Path(questions), seed)
    key, others = press or keyboard, {UNDO: "undo", QUIT: "quit"}
    with Labels(output) as labels, single_keys():
        before = len(labels.rows)
        open_ones = unanswered(asked, labels.rows)
        end = len(open_ones) if limit is None else min(limit, len(open_ones))
        place = 0
        while place < end:
            query = open_ones[place]
            try:
                show(f"\n[{place + 1} of {end}]\n{shown(query)}\n{legend(others)}")
                pressed = pressed_key(key, show, others)
            except KeyboardInterrupt:  # Ctrl-C may come while the question is still being printed
                pressed = QUIT
            if pressed == QUIT:
                break
            if pressed == UNDO:
                place = max(place - 1, 0)
                show("taken back" if labels.keep(before + place) else "there is nothing to take back")
                continue
            labels.append(query, KEYS[pressed])
            place += 1
        ranks = [row["ranks"] for row in labels.rows]
    said = {verdict: ranks.count(rank) for verdict, rank in RANKS.items()}
    return Labelled(Path(output), place, before, len(open_ones) - place, left_out, said)


def questions_of(path: Path, seed: int) -> tuple[list[Query], LeftOut]:
    """The questions of a file, each pair once, with the two sides by lot; and the rows that could not be used.

    Raises:
        TaskError: as `laurel.preferences.pairs`, or if the rows are of no known form.
    """
    found = _read(path)
    queries: dict[tuple[str, frozenset[str]], Query] = {}
    for preference in found:
        assert isinstance(preference, Preference)
        for one, other in itertools.combinations(preference.answers, 2):
            identity = _identity(preference.prompt, (one, other))
            sides = (one, other) if _coin(identity, seed) else (other, one)
            queries.setdefault(identity, Query(Task(preference.id, preference.prompt), sides))
    return list(queries.values()), found.left_out


def unanswered(asked: Sequence[Query], rows: Sequence[Mapping[str, Any]]) -> list[Query]:
    """The questions that none of these labels answers, whichever side stood first."""
    known = {_identity(row["prompt"], row["answers"]) for row in rows}
    return [query for query in asked if _identity(query.task.prompt, query.answers) not in known]


def _read(path: Path) -> PreferenceSet:
    rows = list(_rows(path))
    columns = set(next((row for _, row in rows if isinstance(row, Mapping)), ()))
    if "answers" in columns:
        return rankings(path)
    if {"chosen", "rejected"} <= columns:
        return pairs(path)
    if {"prompt", "answer"} <= columns:
        grouped, left_out = _grouped(rows)
        if not grouped:
            raise TaskError(f"{path} has no two different answers to one prompt.", hint="draw more: --samples 2.")
        return replace(rankings(rows=grouped), left_out=left_out)
    raise TaskError(
        f"{path} holds no questions: its first row has {', '.join(sorted(columns)) or 'no columns'}.",
        hint="give prompt and answers; chosen and rejected; or prompt and answer, one row per answer.",
    )


def _rows(path: Path) -> Iterator[tuple[int, object]]:
    """The rows of a file by their numbers; None for a line that is no JSON."""
    for number, where, row in numbered_rows(path, ()):
        try:
            yield number, parsed(row, where) if isinstance(row, bytes) else row
        except TaskError:
            yield number, None


def _grouped(rows: Iterable[tuple[int, object]]) -> tuple[list[dict[str, Any]], LeftOut]:
    """Rows of single answers as rows of all different answers to a prompt, where there are two or more."""
    answers: dict[str, dict[str, None]] = {}
    faults: dict[Fault, tuple[int, ...]] = {}
    for number, row in rows:
        fault = _fault(row)
        if fault is not None:
            faults[fault] = (*faults.get(fault, ()), number)
        elif isinstance(row, Mapping) and row["answer"].strip():
            answers.setdefault(json.dumps(row["prompt"]), {})[row["answer"]] = None
    several = [(prompt, given) for prompt, given in answers.items() if len(given) > 1]
    return [{"prompt": json.loads(prompt), "answers": list(given)} for prompt, given in several], LeftOut(faults)


def _fault(row: object) -> Fault | None:
    if not isinstance(row, Mapping):
        return Fault.BROKEN
    if not {"prompt", "answer"} <= set(row):
        return Fault.COLUMN
    fits = isinstance(row["prompt"], str | list) and isinstance(row["answer"], str)
    return None if fits else Fault.TYPE


def _identity(prompt: Prompt | Sequence[Mapping[str, str]], answers: Sequence[str]) -> tuple[str, frozenset[str]]:
    asked = prompt if isinstance(prompt, str) else repr([(m["role"], m["content"]) for m in prompt])
    return asked, frozenset(answers)


def _coin(identity: tuple[str, frozenset[str]], seed: int) -> bool:
    """Heads or tails for a pair, the same whatever else is asked."""
    prompt, answers = identity
    digest = hashlib.sha256(repr((seed, prompt, sorted(answers))).encode(errors="replace")).digest()
    return digest[0] % 2 == 0
