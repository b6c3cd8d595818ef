"""`laurel check` of a fit and of rlhf: it finds what the command would stop with, and trains nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_fitting
import test_human_feedback
from command_line import Said, laurel, write_rows

import laurel as package

GOLDS = """\
def fails_on_nothing(task, text):
    if not text:
        raise ValueError("no dish")
    return 1.0

def nan(task, text):
    return float("nan")
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    bad = [{"prompt": "a>", "chosen": "a", "rejected": "a"}, {"prompt": "a>", "chosen": "a", "rejected": " "}]
    write_rows(tmp_path / "pairs.jsonl", [*test_fitting.rows(0, 40), *bad])
    (tmp_path / "judge.yaml").write_text(test_fitting.RECIPE)
    prompts = [{"question": task.prompt, "answer": "a"} for task in test_human_feedback.asked(0, 20)]
    write_rows(tmp_path / "prompts.jsonl", prompts)
    (tmp_path / "loop.yaml").write_text(test_human_feedback.RECIPE)
    (tmp_path / "gold_for_checks.py").write_text(GOLDS)
    return tmp_path


def check(name: str, *overrides: str) -> Said:
    said = laurel("check", name, *overrides)
    assert not Path("runs").exists()
    return said


def test_a_sound_fit() -> None:
    said = check("judge.yaml")
    assert said.status == 0, said
    assert "tasks: ok: 32 tasks; 2 rows left out: identical answers (row 41); empty answers (row 42)" in said.out
    assert "tasks: ok: 32 of 32 prompts say something to BradleyTerry(ties=False)" in said.out
    assert "held_out: ok: 8 of 8 prompts" in said.out
    assert "answers: ok: all are tokens, and fit a context of 16" in said.out
    assert "reward_model: ok: what is fitted can be saved" in said.out
    tied = [{"prompt": f"{'a' * n}>", "answers": ["a", "b"], "ranks": ranks} for n, ranks in ((1, [1, 1]), (2, [1, 2]))]
    write_rows(Path("ties.jsonl"), tied)
    given = ("tasks={name: rankings, path: ties.jsonl, ranks: ranks}", "held_out=null", "objective=bradley_terry")
    assert "tasks: ok: 1 of 2 prompts say something" in check("judge.yaml", *given).out


@pytest.mark.parametrize(
    "wrong",
    [
        ("stepz=3",),
        ("steps=0",),
        ("share=2",),
        ("tasks.path=nowhere.jsonl",),
        ("tasks.strict=true",),
        ("held_out=0",),
        ("objective={name: ordinal, lowest: 2, highest: 5}",),
        ("policy.context_length=8",),
        ("policy.alphabet=b>",),
        ("policy=./broken",),
        ("optimiser={schedule: linear, warmup_steps: 9}",),
    ],
    ids=lambda wrong: wrong[0].partition("=")[0],
)
def test_check_finds_what_the_fit_stops_with(wrong: tuple[str, ...]) -> None:
    Path("broken").mkdir()
    found = check("judge.yaml", *wrong)
    stopped = laurel("fit-reward-model", "judge.yaml", *wrong)
    assert found.status == stopped.status == 1
    message = stopped.err.partition(": ")[2].splitlines()[0]
    assert message in found.out + found.err, (found, stopped)


def test_a_sound_rlhf() -> None:
    said = check("loop.yaml")
    assert said.status == 0, said
    assert "gold_reward: ok: 24 answers were judged, from 0 to 1" in said.out  # 8 prompts and 4, each with and without
    assert "reward_model.tasks: not checked: 12 comparisons will be made" in said.out
    for run in ("clone", "reinforce"):
        assert f"{run}: ok: all are tokens as plain text, and fit a path of 12" in said.out
    away = check("loop.yaml", "policy=./nowhere")
    assert away.status == 0 and "policy: not checked: ./nowhere" in away.out


@pytest.mark.parametrize(
    "wrong",
    [
        ("gold_rewrad=exact_match",),
        ("reinforce.stepz=3",),
        ("reward_model.members=0",),
        ("pessimism=1",),
        ("tasks.path=nowhere.jsonl",),
        ("gold_reward=gold_for_checks:nowhere",),
        ("policy.context_length=5",),
        ("policy.alphabet=a>",),
        ("labels=null", "reward_model.tasks={name: pairs, path: nowhere.jsonl}"),
        ("labels=null", "reward_model.tasks={name: pairs, path: long.jsonl}"),
    ],
    ids=lambda wrong: wrong[-1].partition("=")[0],
)
def test_check_finds_what_rlhf_stops_with_before_it_trains(wrong: tuple[str, ...]) -> None:
    write_rows(Path("long.jsonl"), [{"prompt": "a>", "chosen": "a" * 12, "rejected": "b"}])
    found = check("loop.yaml", *wrong)
    stopped = laurel("rlhf", "loop.yaml", *wrong)
    assert found.status == stopped.status == 1
    assert not Path("runs/loop/clone").exists()
    message = stopped.err.partition(": ")[2].splitlines()[0]
    assert message in found.out + found.err, (found, stopped)


def test_a_gold_reward_that_fails_is_found() -> None:
    said = check("loop.yaml", "gold_reward=gold_for_checks:fails_on_nothing")
    assert said.status == 1
    assert "gold_reward: WRONG: 12 of 24 answers could not be judged:" in said.out
    assert "empty answer ''" in said.out and "no dish" in said.out
    assert "gold_reward: WRONG: 24 of 24" in check("loop.yaml", "gold_reward=gold_for_checks:nan").out
    written = laurel("check", "loop.yaml", "--gold", "#### {reference}")
    assert "from 0 to 0" in written.out  # exact_match knows no marker
    unread = laurel("check", "judge.yaml", "--gold", "#### {reference}")
    assert unread.status == 1 and "'gold' would not be read" in unread.err


def test_comparisons_of_your_own_are_looked_at() -> None:
    own = ("labels=null", "reward_model.tasks={name: pairs, path: pairs.jsonl}")
    said = check("loop.yaml", *own, "policy.context_length=16")
    assert said.status == 0, said
    assert "reward_model.tasks: ok: 40 tasks; 2 rows left out" in said.out
    assert "reward_model.tasks: ok: 40 of 40 prompts say something" in said.out
    for name in ("check", "rlhf"):
        strict = laurel(name, "loop.yaml", *own, "--strict")
        assert strict.status == 1 and "pairs.jsonl, line 41: both answers are the same" in strict.err


def test_from_python() -> None:
    settings = {"policy": test_fitting.policy(), "tasks": package.preferences.pairs(rows=test_fitting.rows(0, 20))}
    checked = package.check(settings)
    assert checked.passed and [finding.about for finding in checked.findings] == ["tasks", "answers", "reward_model"]
