"""Killed and resumed equals uninterrupted, byte for byte, for the kinds of experience that carry state of their own."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_resume import ALPHABET, ended, in_child, result, sums, train

import laurel
from laurel.environments import Conversation, NumberGuessing
from laurel.runs import Run
from laurel.tasks import Task

STEPS = 4


def killed_and_resumed(tmp_path: Path, moment: str, changes: Callable[[], dict[str, Any]]) -> Run:
    """The resumed run, after it was compared; `changes` is called in each process, as a program would be started."""
    whole, directory = tmp_path / "whole", tmp_path / "run"
    assert ended(in_child(lambda: train(whole, steps=STEPS, **changes()))) == 0
    killed = ended(in_child(lambda: train(directory, steps=STEPS, **changes()), {"LAUREL_KILL_AT": moment}))
    assert killed == -signal.SIGKILL
    with Run.open(directory) as run:
        assert run.status.state == "interrupted"
    assert ended(in_child(lambda: train(directory, steps=STEPS, resume=True, **changes()))) == 0
    assert result(directory) == result(whole)
    return Run.open(directory)


@pytest.mark.parametrize("moment", ["after_sampling:3", "after_record:4"])
def test_truncated_supports(moment: str, tmp_path: Path) -> None:
    sampling = laurel.Sampling(temperature=0.7, top_k=9, top_p=0.5, min_p=0.01)
    with killed_and_resumed(tmp_path, moment, lambda: {"sampling": sampling}) as run:
        drawn = [segment for step in run.steps() for tree in run.trees(step) for segment in tree.segments[1:]]
    assert all(segment.support is not None for segment in drawn)
    assert any(1 < len(segment.support.ids) / len(segment) < 9 for segment in drawn if segment.support)


@pytest.mark.parametrize("moment", ["after_grading:4", "after_checkpoint:2"])
def test_dynamic_sampling_and_its_cursor(moment: str, tmp_path: Path) -> None:
    """Steps take as many tasks as they need, so that only the cursor knows where the next one starts."""

    def changes() -> dict[str, Any]:
        return {
            "algorithm": laurel.dapo(maximum_draws=3),
            "reward": laurel.rewards.in_process(lambda task, text: float(text[:1] == task.reference)),
        }

    with killed_and_resumed(tmp_path, moment, changes) as run:
        drawn = {step: metric.count for step, metric in run.metric("groups_without_signal")}
    assert len(set(drawn.values())) > 1, "every step drew the same number of prompts"


def test_continuations_where_the_policy_was_undecided(tmp_path: Path) -> None:
    algorithm = laurel.vine_ppo(entropy_above=2.56, continuations=2, budget=8)
    with killed_and_resumed(tmp_path, "after_sampling:3", lambda: {"algorithm": algorithm}) as run:
        places = {step: sum(len(tree.segments) for tree in run.trees(step)) for step in run.steps()}
    assert len(set(places.values())) > 1, places


def game() -> dict[str, Any]:
    environment = NumberGuessing(low=1, high=3, turns=2, higher="+", lower="-")
    return {
        "policy": laurel.policy.tiny(
            alphabet="gues 123:+-", hidden_size=16, layers=1, heads=2, context_length=32
        ),
        "environment": environment,
        "tasks": environment.tasks(40),
        "held_out": environment.tasks(6, first=40),
        "reward": None,
        "limits": laurel.Limits(max_new_tokens=2, max_turns=2),
    }  # fmt: skip


@pytest.mark.parametrize("moment", ["after_sampling:4", "before_rename:2"])
def test_several_turns(moment: str, tmp_path: Path) -> None:
    with killed_and_resumed(tmp_path, moment, game) as run:
        answered = [len(tree.segments) for step in run.steps() for tree in run.trees(step)]
    assert max(answered) > 1 + 4, "nothing was answered"


class Fragile(Conversation):
    """Breaks where the task and the first turn say so: on this tree, not on that one."""

    def converse(self, task: Task, rollout_id: str) -> Any:
        if task.id.endswith("3"):
            raise ValueError("no sandbox")
        text = yield task.prompt
        if text.startswith("1"):
            raise ValueError("the sandbox is gone")
        text = yield "+"
        return float(text == task.reference)


def failing() -> dict[str, Any]:
    return {
        "policy": laurel.policy.tiny(alphabet=f"{ALPHABET}+", hidden_size=16, layers=1, heads=2, context_length=12),
        "environment": Fragile(),
        "limits": laurel.Limits(max_new_tokens=2, max_turns=2),
        "grading": laurel.rewards.GradingSettings(failure_fraction=1.0, failures_in_a_row=1000),
        "reward": None,
    }


@pytest.mark.parametrize("moment", ["after_update:3", "after_record:4"])
def test_failed_rollouts(moment: str, tmp_path: Path) -> None:
    with killed_and_resumed(tmp_path, moment, failing) as run:
        failed, drawn = run.failures()
    assert 0 < failed < drawn


def test_an_adapter(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="the extra `lora` is not installed")
    base = tmp_path / "base"
    laurel.policy.tiny(alphabet=ALPHABET, hidden_size=16, layers=1, heads=2, context_length=8).export(base)

    def changes() -> dict[str, Any]:
        lora = laurel.policy.LoraSettings(rank=2)
        return {"policy": laurel.policy.load(base, device="cpu", lora=lora)}

    with killed_and_resumed(tmp_path, "before_update:4", changes) as run:
        names = run.load_checkpoint().tensors["policy"]  # type: ignore[union-attr]
    assert names and all("lora_" in name for name in names)


class Chatter(Conversation):
    """Goes on for three turns, whatever is said."""

    def converse(self, task: Task, rollout_id: str) -> Any:
        text = yield task.prompt
        for _ in range(2):
            text = yield text[-1:] or "+"
        return 0.0


def last_digit(task: Task, dialogue: tuple[str, ...]) -> str:
    if dialogue[-1] == "9":
        raise ValueError("no answer to a nine")
    return dialogue[-1][-1:]


def asked() -> dict[str, Any]:
    return {
        "policy": laurel.policy.tiny(alphabet=f"{ALPHABET}+", hidden_size=16, layers=1, heads=2, context_length=24),
        "algorithm": laurel.dagger(queries=36, mixture=0.5, prompts_per_update=5),
        "environment": Chatter(),
        "expert": last_digit,
        "limits": laurel.Limits(max_new_tokens=3, max_turns=3),
        **dict.fromkeys(("reward", "held_out")),
        "evaluate_every": None,
    }


@pytest.mark.parametrize("moment", ["after_sampling:3", "after_update:4", "after_record:3", "after_checkpoint:2"])
def test_what_an_expert_answered(moment: str, tmp_path: Path) -> None:
    """Steps learn from answers of all rounds, and the budget ends in the middle of the run."""
    with killed_and_resumed(tmp_path, moment, asked) as run:
        left = [metric.sum for _, metric in run.metric("queries_left")]
        again = {tree.id.split(".")[0] for tree in run.trees(4)}
    assert left[0] > 0 and left[-1] == 0 and len(again) > 1


@pytest.mark.parametrize("moment", ["after_sampling:4", "after_checkpoint:2"])
def test_a_curriculum(moment: str, tmp_path: Path) -> None:
    """What comes next follows from all scores so far, also from those before the checkpoint."""

    def changes() -> dict[str, Any]:
        tasks = tuple(replace(task, data={"hard": number % 3}) for number, task in enumerate(sums(0, 60)))
        return {
            "tasks": laurel.tasks.TaskSet("sums", tasks),
            "reward": laurel.rewards.in_process(lambda task, text: float(len(text) % 2)),
            "curriculum": laurel.tasks.Curriculum("hard", bar=0.3, window=8),
        }

    with killed_and_resumed(tmp_path, moment, changes) as run:
        levels = [metric.mean for _, metric in run.metric("level")]
    assert levels[-1] > levels[0], levels
