"""Critique and revision: every text as it was asked for, going on, and what is learned from the revised answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import laurel
import laurel.revising as module
from laurel.cli import app
from laurel.errors import ConfigurationError, TaskError
from laurel.policy import Policy
from laurel.preferences import pairs
from laurel.preferences.constitution import drawn_principle
from laurel.rollout import Respondent
from laurel.tasks import Message, Task, TaskSet, jsonl

ALPHABET = "abcdefCRuw:>? \n"
PRINCIPLES = ("be a", "be c")
SHORT = {"critique": "C{principle}", "revision": "R", "max_new_tokens": 4, "principles": PRINCIPLES}
PROMPTS = TaskSet("prompts", tuple(Task(f"t{text}", f"{text}>") for text in ("ab", "c", "de", "f", "cab")))


@pytest.fixture(scope="module")
def policy() -> Policy:
    return laurel.policy.tiny(alphabet=ALPHABET, hidden_size=32, context_length=64, initial_scale=0.3, seed=6)


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_text_is_what_the_policy_says_there(policy: Policy, tmp_path: Path) -> None:
    result = laurel.revise(policy, PROMPTS, tmp_path / "r.jsonl", rounds=2, temperature=1.0, seed=3, **SHORT)  # type: ignore[arg-type]
    ask = Respondent(policy)
    for task, row in zip(PROMPTS, rows(tmp_path / "r.jsonl"), strict=True):
        said = [Message(role="user", content=str(task.prompt))]
        answer = ask(said, temperature=1.0, seed=3, max_new_tokens=4)
        assert (row["task"], row["prompt"], row["first"]) == (task.id, task.prompt, answer)
        for number, kept in enumerate(row["rounds"], start=1):  # type: ignore[var-annotated, arg-type]
            principle = drawn_principle(PRINCIPLES, 3, task.id, str(number))
            turn = [*said, Message(role="assistant", content=answer), Message(role="user", content=f"C{principle}")]
            critique = ask(turn, temperature=1.0, seed=3, max_new_tokens=4)
            turn += [Message(role="assistant", content=critique), Message(role="user", content="R")]
            revision = ask(turn, temperature=1.0, seed=3, max_new_tokens=4)
            assert kept == {"principle": principle, "critique": critique, "revision": revision}
            answer = revision if revision.strip() else answer
        assert row["answer"] == answer
    assert (result.new, result.before, result.left, result.left_out) == (5, 0, 0, {})
    assert f"{result.changed} of them changed" in str(result) and result.changed > 0


def test_an_interrupted_call_goes_on_and_ends_in_the_same_file(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "r.jsonl"
    laurel.revise(policy, PROMPTS, whole, temperature=1.0, **SHORT)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "TASKS_AT_ONCE", 2)
    told: list[str] = []
    part = laurel.revise(policy, PROMPTS, output, temperature=1.0, limit=3, show=told.append, **SHORT)  # type: ignore[arg-type]
    assert part.left == 2 and told == [f"{n} of 3 tasks are answered and revised" for n in (2, 3)]
    output.write_bytes(output.read_bytes()[:-9])  # killed in the middle of a line
    result = laurel.revise(policy, PROMPTS, output, temperature=1.0, **SHORT)  # type: ignore[arg-type]
    assert (result.before, result.new, result.left) == (2, 3, 0)
    assert output.read_bytes() == whole.read_bytes()
    with pytest.raises(TaskError, match="line 1: another model wrote this"):
        laurel.revise(policy, PROMPTS, output, temperature=0.5, **SHORT)  # type: ignore[arg-type]


def test_a_prompt_without_room_is_left_out_and_named(policy: Policy, tmp_path: Path) -> None:
    tasks = [*PROMPTS.tasks[:1], Task("long", "a" * 64), Task("tight", "a" * 58)]
    result = laurel.revise(policy, tasks, tmp_path / "r.jsonl", **SHORT)  # type: ignore[arg-type]
    assert result.left_out == {"long": "its prompt leaves no room"}
    assert "long: its prompt leaves no room" in str(result)
    tight = rows(tmp_path / "r.jsonl")[1]
    assert tight["rounds"][0]["critique"] is None and tight["answer"] == tight["first"]  # type: ignore[index]
    assert result.cut == 1 and "1 rounds had no room" in str(result)


def test_what_is_learned_from_revisions_is_what_was_revised(tmp_path: Path) -> None:
    """A policy that says b, knows that it should be a, and says a when it is told to write again."""
    policy = laurel.policy.tiny(alphabet=ALPHABET, hidden_size=32, layers=1, heads=2, context_length=32)
    shown = [(task.id, f"{task.prompt}", "b") for task in PROMPTS]
    shown += [(f"{name}.c", f"{asked}\nb\nCbe a", "w") for name, asked, _ in shown]
    shown += [(f"{name}.r", f"{asked}\nw\nR", "a") for name, asked, _ in shown[len(PROMPTS) :]]
    tasks = TaskSet("shown", tuple(Task(*each) for each in shown))
    quick = {
        "algorithm": laurel.clone(),
        "prompts_per_step": 15,
        "optimiser": laurel.OptimiserSettings(learning_rate=1e-2),
    }
    laurel.train(policy=policy, tasks=tasks, steps=60, run=tmp_path / "start", **quick)  # type: ignore[arg-type]
    output = tmp_path / "r.jsonl"
    settings = {**SHORT, "principles": ["be a"]}
    assert laurel.revise(policy, PROMPTS, output, **settings).changed == 5  # type: ignore[arg-type]
    assert {(row["first"], row["answer"]) for row in rows(output)} == {("b", "a")}
    assert {(t.answers, t.scores) for t in pairs(output, chosen="answer", rejected="first")} == {
        (("a", "b"), (1.0, 0.0))
    }  # type: ignore[attr-defined]
    revised = jsonl(output, prompt="prompt", reference="answer")
    laurel.train(policy=policy, tasks=revised, steps=20, run=tmp_path / "run", **{**quick, "prompts_per_step": 5})  # type: ignore[arg-type]
    ask = Respondent(policy)
    assert [ask([Message(role="user", content=str(task.prompt))]) for task in PROMPTS] == ["a"] * 5


def test_settings_that_make_no_sense_are_refused(policy: Policy, tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    for wrong, why in (
        ({"rounds": -1}, "rounds"),
        ({"critique": "why?"}, "has the fields none"),
        ({"revision": "{x}"}, "x"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            laurel.revise(policy, PROMPTS, output, **{**SHORT, **wrong})  # type: ignore[arg-type]
    assert not output.exists()
    output.write_text('{"prompt": "a"}\n')
    with pytest.raises(TaskError, match="line 1 is no revised answer"):
        laurel.revise(policy, PROMPTS, output, **SHORT)  # type: ignore[arg-type]


def test_the_command(tmp_path: Path) -> None:
    laurel.policy.tiny(hidden_size=16, layers=1, heads=2, context_length=512).export(tmp_path / "model")
    (tmp_path / "q.jsonl").write_text('{"question": "2+2?"}\n{"question": "3+3?"}\n')
    output = tmp_path / "r.jsonl"
    command = ["revise", str(tmp_path / "model"), "--tasks", str(tmp_path / "q.jsonl"), "--output", str(output)]
    done = CliRunner().invoke(app, [*command, "--max-new-tokens", "3", "--limit", "1", "--temperature", "1"])
    assert done.exit_code == 0 and "1 tasks are left" in done.output
    again = CliRunner().invoke(app, [*command, "--max-new-tokens", "3", "--temperature", "1"])
    assert "1 answers more, 2 in" in again.output and len(rows(output)) == 2
