"""Rows of preferences that cannot be used, as someone at the command line sees them: named, counted, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import laurel as command
from command_line import write_rows

GOOD = [{"prompt": f"{n}+{n}?", "chosen": f"{n}", "rejected": f"{n}{n}"} for n in range(6)]
BAD = [
    {"prompt": "1?", "chosen": "1", "rejected": "1"},
    {"prompt": "1?", "chosen": "1", "rejected": ""},
    {"prompt": "1?", "chosen": "1", "rejected": 2},
]
RECIPE = """\
policy: {name: tiny, alphabet: "0123456789+?", hidden_size: 16, layers: 1, heads: 2, context_length: 16}
tasks: {name: pairs, path: pairs.jsonl}
algorithm: dpo
steps: 1
prompts_per_step: 4
run: runs/pairs
"""
TOLD = "3 rows left out: identical answers (row 7); empty answers (row 8); values of the wrong type (row 9)"


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "pairs.jsonl", [*GOOD, *BAD])
    (tmp_path / "pairs.yaml").write_text(RECIPE)


def test_they_are_counted_before_training_in_the_report_and_by_check() -> None:
    checked = command("check", "pairs.yaml")
    assert checked.status == 0 and TOLD in checked.out
    trained = command("train", "pairs.yaml")
    assert trained.status == 0, trained.err
    assert TOLD in trained.out
    shown = command("show", "runs/pairs").out
    assert "identical answers: 1, empty answers: 1, values of the wrong type: 1" in shown
    assert (
        "pairs          0.500 -> 0.500  (of each step's, the right way round)" in shown
    )  # the policy is the reference


@pytest.mark.parametrize("name", ["train", "check"])
def test_strict_stops_at_the_first_and_leaves_nothing_behind(name: str) -> None:
    stopped = command(name, "pairs.yaml", "--strict")
    assert stopped.status == 1 and "pairs.jsonl, line 7: both answers are the same" in stopped.err
    assert not Path("runs").exists()
    write_rows(Path("pairs.jsonl"), GOOD)
    assert command(name, "pairs.yaml", "--strict").status == 0


def test_strict_is_refused_where_nothing_would_read_it() -> None:
    write_rows(Path("tasks.jsonl"), [{"question": "1?", "answer": "1"}])
    refused = command("train", "pairs.yaml", "tasks={name: jsonl, path: tasks.jsonl}", "--strict")
    assert refused.status == 1 and "--strict would not be read" in refused.err
