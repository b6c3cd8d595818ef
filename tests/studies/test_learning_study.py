"""Every online method on two tasks: what is run, what is kept, what is made of it; and that it does learn."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from laurel.algorithms import METHODS
from laurel.picture import draw
from studies.learned import PROMPTS, SAMPLES, Learned, chosen, learn
from studies.learning import kept, missing, wanted
from studies.learning_methods import CONTROLS, FAMILIES, algorithm, family_of, left_out, runnable
from studies.learning_report import by_cell, cell_numbers, markdown, method_numbers, panels, report
from studies.learning_tasks import learning_tasks

VERSIONS = {"laurel": "0", "device": "cpu"}


def learned(method: str, task: str, seed: int, returns: list[float]) -> Learned:
    settings = json.dumps(chosen(method, learning_tasks()[task]))
    steps = [10 * place for place in range(len(returns))]
    return Learned(method, task, seed, settings, steps, returns, 1.0, 100.0 + seed, 50.0, 0.5, VERSIONS)


def test_every_method_runs_or_is_left_out_with_a_reason() -> None:
    assert sorted([*runnable(), *left_out()]) == sorted(METHODS)
    assert {"clone", "dpo"} <= set(left_out()) and "judged answers" in left_out()["dpo"]
    members = [name for family in FAMILIES for name in family.members]
    assert len(members) == len(set(members)) and set(members) == set(runnable())
    for name in (*runnable(), *CONTROLS):
        assert algorithm(name, 4).needs_critic == (family_of(name).critic is not None)


def test_what_is_there_is_not_run_again_and_a_line_cut_off_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = wanted(["grpo", "rloo"], 2)
    assert len(cells) == 8 and {cell[2] for cell in cells[:4]} == {0}
    first, second = learned("grpo", "letters", 0, [0, 1]), learned("rloo", "letters", 1, [0, 1])
    lines = [json.dumps(asdict(one)) for one in (first, second)]
    path = tmp_path / "learning.jsonl"
    assert kept(path) == []
    path.write_text("\n".join(lines)[:-5])
    assert kept(path) == [first] and "cut off" in capsys.readouterr().out
    assert missing(cells, [first]) == [cell for cell in cells if cell != ("grpo", "letters", 0)]
    assert missing(cells, [replace(first, settings="others")]) == cells


def test_what_seeds_say_by_hand() -> None:
    curves = [[0, 0.2, 0.95], [0, 0.9, 1.0], [0.1, 0.1, 0.1], [0, 0.9, 0.89]]
    runs = [learned("rloo", "letters", seed, curve) for seed, curve in enumerate(curves)]
    found = cell_numbers(runs, learning_tasks()["letters"])
    assert found["interquartile_mean"] == pytest.approx((0.89 + 0.95) / 2)
    assert found["solved"] == 2 and found["steps_to_solve"] == 15  # at 20 and at 10
    assert found["sampled_tokens_per_step"] == 101.5
    low, high = found["interval"]
    assert 0.1 <= low < 0.92 < high <= 1
    both = [*runs, *(learned("rloo", "digging", seed, [0.0, 1.0]) for seed in range(4))]
    together = method_numbers("rloo", by_cell(both))["together"]
    assert together["interquartile_mean"] == pytest.approx(
        (0.95 + 3) / 4
    )  # of 0.1 0.89 0.95 1 1 1 1 1: the middle four


def test_a_report_says_what_is_missing_and_what_was_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.publishing.RESULTS", tmp_path)
    runs = [learned("rloo", "letters", seed, [0.0, 1.0]) for seed in range(3)]
    runs += [learned(name, "digging", 0, [0.0, 0.4]) for name in CONTROLS]
    report(runs, 7, tmp_path)
    numbers = json.loads((tmp_path / "learning.json").read_text())
    assert (tmp_path / "learning.md").read_text() == markdown(numbers)
    text = markdown(numbers)
    assert "7 runs are missing" in text and "| `rloo` | 1.00 [1.00, 1.00] | 3/3 | 10 | 101 | 50 | 0.500 | - |" in text
    assert "`clone`: learns from demonstrated answers" in text and "| control: myopic turn_ppo | - |" in text
    assert numbers["versions"] == [VERSIONS] and len(numbers["runs"]) == 4
    drawn = panels(by_cell(runs))
    assert len(drawn) == 2 * len(FAMILIES) and draw("", drawn).count("rloo") == 1
    with pytest.raises(SystemExit):
        report([], 1, tmp_path)


def test_what_a_step_costs_counts_every_drawn_and_every_learned_token() -> None:
    """Greedy answers and continuations are drawn, and not learned from; epochs learn again."""
    plain, greedy, fitted = (learn(name, "letters", 0, steps=1) for name in ("rloo", "remax", "ppo"))
    assert PROMPTS * SAMPLES <= plain.sampled_tokens <= 2 * PROMPTS * SAMPLES
    assert plain.sampled_tokens + PROMPTS <= greedy.sampled_tokens <= plain.sampled_tokens + 2 * PROMPTS
    assert fitted.sampled_tokens == plain.sampled_tokens
    assert fitted.learner_tokens > 3 * plain.learner_tokens
    assert learn("vine_ppo", "letters", 0, steps=1).sampled_tokens > plain.sampled_tokens
