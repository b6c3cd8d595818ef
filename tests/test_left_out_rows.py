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


LONG = {"prompt": "11111+11111?", "chosen": "22222", "rejected": "33333"}
TOO_LONG = "too long for the policy's context (row 3)"


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def with_a_long_pair() -> None:
    write_rows(Path("pairs.jsonl"), [*GOOD[:2], LONG, *GOOD[2:]])


def test_a_pair_that_is_too_long_is_left_out_named_and_counted() -> None:
    with_a_long_pair()
    for name in ("check", "explain"):
        assert TOO_LONG in unwrapped(command(name, "pairs.yaml").out), name
    trained = command("train", "pairs.yaml")
    assert trained.status == 0 and f"tasks: 1 row left out: {TOO_LONG}" in trained.out
    assert "too long for the policy's context: 1" in command("show", "runs/pairs").out
    assert command("train", "pairs.yaml", "steps=2", "--resume").status == 0
    stopped = command("train", "pairs.yaml", "run=runs/other", "--strict")
    assert stopped.status == 1 and "Task pairs-3: prompt and answer have 18 tokens" in stopped.err
    assert not Path("runs/other").exists()


def test_so_is_one_for_a_reward_model() -> None:
    with_a_long_pair()
    recipe = RECIPE.replace("algorithm: dpo\n", "").replace("runs/pairs", "runs/model")
    Path("model.yaml").write_text(recipe)
    for name in ("check", "explain"):
        assert TOO_LONG in unwrapped(command(name, "model.yaml").out), name
    fitted = command("fit-reward-model", "model.yaml")
    assert fitted.status == 0 and f"tasks: 1 row left out: {TOO_LONG}" in fitted.out
    stopped = command("fit-reward-model", "model.yaml", "run=runs/other", "--strict")
    assert stopped.status == 1 and "Task pairs-3: prompt and answer have 18 tokens" in stopped.err


def test_a_rating_between_two_levels_is_left_out_of_an_ordinal_fit() -> None:
    rated = [{"prompt": f"{n}+{n}?", "answers": f"{n}", "ratings": rating} for n, rating in enumerate([1, 2.5, 3, 2])]
    write_rows(Path("ratings.jsonl"), rated)
    Path("model.yaml").write_text(
        RECIPE.replace("algorithm: dpo", "objective: {name: ordinal, lowest: 1, highest: 3}").replace(
            "{name: pairs, path: pairs.jsonl}", "{name: ratings, path: ratings.jsonl, low: 1, high: 3}"
        )
    )
    told = "ratings between two levels of the likelihood (row 2)"
    checked = command("check", "model.yaml")
    assert told in checked.out and "3 of 3 prompts say something" in checked.out and checked.status == 0
    assert told in unwrapped(command("explain", "model.yaml").out)
    assert told in command("fit-reward-model", "model.yaml").out
    stopped = command("fit-reward-model", "model.yaml", "run=runs/other", "--strict")
    assert stopped.status == 1 and "Task ratings-2: 2.5 lies between two ratings" in stopped.err
    compared = command("fit-reward-model", "model.yaml", "run=runs/other", "objective=bradley_terry")
    assert (
        compared.status == 1 and "no answer is better than another" in compared.err
    )  # it reads 2.5, and one answer says nothing


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
