"""A file of answers, judged: the file that a person's labels are, the bias over all of it, and going on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import laurel
from laurel.cli import app
from laurel.errors import ConfigurationError, LaurelError, TaskError
from laurel.policy import Comparison
from laurel.preferences import label, rankings
from laurel.preferences.both_orders import sigmoid
from laurel.tasks import Task

QUESTIONS = [{"prompt": f"{n}>", "answers": [f"{n}", f"{n + 1}", f"{n + 3}"]} for n in range(1, 9)]


def write(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def greater(task: Task, first: str, second: str) -> float:
    """The greater the better, by the difference; the first place is worth 2.5."""
    return sigmoid(float(first) - float(second) + 2.5)


def test_labels_are_those_that_a_person_would_leave(tmp_path: Path) -> None:
    questions, output = write(tmp_path / "q.jsonl", QUESTIONS), tmp_path / "labels.jsonl"
    told: list[str] = []
    result = laurel.judge(questions, output, greater, show=told.append)
    assert (result.labelled.new, result.labelled.left) == (24, 0) and told == ["24 of 24 pairs are judged"]
    for task in rankings(output, ranks="ranks"):
        assert task.reference == max(task.answers, key=float)  # type: ignore[attr-defined]
    assert result.bias is not None and result.bias.position[0] == pytest.approx(2.5, abs=1e-4)
    assert result.bias.flips[0] == pytest.approx(2 / 3)  # differences of 1 and 2, not of 3
    assert "verdict turns with the order: 0.667" in str(result)
    tied = laurel.judge(questions, tmp_path / "tied.jsonl", greater, disagreement="tie").labelled.said
    skipped = laurel.judge(questions, tmp_path / "skipped.jsonl", greater, disagreement="skip").labelled.said
    assert (tied[0.5], tied[1.0] + tied[0.0]) == (16, 8) == (skipped[None], skipped[1.0] + skipped[0.0])


def test_the_same_call_goes_on_and_speaks_of_the_whole_file(tmp_path: Path) -> None:
    questions, output = write(tmp_path / "q.jsonl", QUESTIONS), tmp_path / "labels.jsonl"
    whole = laurel.judge(questions, tmp_path / "whole.jsonl", greater)
    assert laurel.judge(questions, output, greater, limit=7).labelled.left == 17
    label(questions, output, press=lambda: "1", show=lambda text: None, limit=2)  # a person helps
    cut = output.read_bytes()
    output.write_bytes(cut[:-5])  # killed in the middle of a line, which was the person's second
    result = laurel.judge(questions, output, greater)
    assert (result.labelled.before, result.labelled.new, result.labelled.left) == (8, 16, 0)
    assert result.bias is not None and whole.bias is not None and result.bias.pairs == 23
    assert [row for row in rows(output) if "judge" in row][:7] == rows(tmp_path / "whole.jsonl")[:7]
    with pytest.raises(TaskError, match="line 1: another model"):
        laurel.judge(questions, output, greater, disagreement="tie")


def test_what_cannot_be_judged_is_skipped_with_its_reason(tmp_path: Path) -> None:
    bad = [{"prompt": "a>", "answers": ["1", "one"]}]
    mixed = laurel.judge(write(tmp_path / "q.jsonl", [*QUESTIONS[:1], *bad]), tmp_path / "mixed.jsonl", greater)
    assert mixed.failed == 1 and mixed.bias is not None and mixed.bias.failed == 1 and mixed.labelled.said[None] == 1
    nothing = laurel.judge(write(tmp_path / "bad.jsonl", bad), tmp_path / "none.jsonl", greater)
    assert nothing.bias is None and "None of 1 pairs could be judged" in str(nothing) and "'one'" in str(nothing)
    with pytest.raises(ConfigurationError, match="'comparison' would not be read"):
        laurel.judge(tmp_path / "q.jsonl", tmp_path / "x.jsonl", greater, comparison=Comparison())
    with pytest.raises(LaurelError, match="disagreement"):
        laurel.judge(tmp_path / "q.jsonl", tmp_path / "x.jsonl", greater, disagreement="coin")  # type: ignore[arg-type]


def test_the_command(tmp_path: Path) -> None:
    questions, output = write(tmp_path / "q.jsonl", QUESTIONS[:2]), tmp_path / "labels.jsonl"
    laurel.policy.tiny(hidden_size=16, layers=1, heads=2, context_length=512).export(tmp_path / "judge")
    (tmp_path / "c.txt").write_text("Take the greater number.\nTake the even number.\n")
    command = ["judge", str(questions), "--judge", str(tmp_path / "judge"), "--output", str(output)]
    principled = [*command, "--principles", str(tmp_path / "c.txt"), "--every-principle"]
    done = CliRunner().invoke(app, [*principled, "--limit", "4"])
    assert done.exit_code == 0 and "4 pairs of 2 prompts, each in both orders" in done.output
    again = CliRunner().invoke(app, principled)
    assert again.exit_code == 0 and "2 labels more, 6 in" in again.output and "2 of 2 pairs" in again.output
    assert all(len(row["log_odds"]) == 2 for row in rows(output))  # type: ignore[arg-type]
    assert isinstance(CliRunner().invoke(app, command).exception, TaskError)  # by other principles
