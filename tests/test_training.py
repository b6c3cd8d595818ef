"""`laurel.train` called from Python, as the documentation shows it."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

import laurel
from laurel.environments.single_turn import SingleTurnEpisode
from laurel.errors import ConfigurationError, LearnerError, RewardError, TaskError
from laurel.progress import Silent
from laurel.runs import Run
from laurel.tasks import Task, TaskSet

ROWS = [{"question": f"{n:02d}>", "answer": str(n // 10 + n % 10)} for n in range(40)]


def tasks() -> TaskSet:
    return laurel.tasks.from_iterable(ROWS, label="sums")


def tiny() -> laurel.policy.Policy:
    return laurel.policy.tiny(alphabet="0123456789>", hidden_size=16, layers=1, heads=2, context_length=8)


def train(directory: Path, **changes: Any) -> Run:
    arguments: dict[str, Any] = {
        "policy": tiny(),
        "tasks": tasks(),
        "reward": laurel.rewards.exact_match(),
        "algorithm": laurel.grpo(clip=0.2),
        "prompts_per_step": 4,
        "samples_per_prompt": 4,
        "steps": 2,
        "limits": laurel.Limits(max_new_tokens=3),
        "run": directory / "run",
    }
    return laurel.train(**{**arguments, **changes})


def starts_like_the_answer(task: Task, text: str) -> float:
    return float(text[:1] == (task.reference or "")[:1])


async def later(task: Task, text: str) -> float:
    await asyncio.sleep(0)
    return starts_like_the_answer(task, text)


def by_rollout(task: Task, rollout: Any) -> laurel.Score:
    return laurel.Score(starts_like_the_answer(task, rollout.text), {"length": float(len(rollout.text))})


def rewards_of(run: Run) -> list[float]:
    return [rollout.reward for step in run.steps() for tree in run.trees(step) for rollout in tree.rollouts]


def test_plain_functions_are_rewards_however_they_are_written(tmp_path: Path) -> None:
    wanted = "1"
    given = {
        "function": starts_like_the_answer,
        "async": later,
        "rollout": by_rollout,
        "lambda": lambda task, text: float(text[:1] == (task.reference or "")[:1]),
        "closure": lambda task, text: float(bool(wanted)) * float(text[:1] == (task.reference or "")[:1]),
        "here": laurel.rewards.in_process(starts_like_the_answer),
    }
    runs = {name: train(tmp_path / name, reward=reward) for name, reward in given.items()}
    expected = rewards_of(runs["function"])
    assert len(expected) == 32 and 0 < sum(expected) < 32
    for name, run in runs.items():
        assert rewards_of(run) == expected, name
        assert "finished" in str(run.summary())
    (metric,) = [metric for step, metric in runs["rollout"].metric("reward/length") if step == 1]
    assert metric.count == 16


def test_what_a_run_was_made_of_is_recorded_with_it(tmp_path: Path) -> None:
    run = train(tmp_path, reward=starts_like_the_answer, seed=3, optimiser=laurel.OptimiserSettings(learning_rate=1e-3))
    kept = run.configuration
    assert kept["reward"].endswith("test_training:starts_like_the_answer")
    assert kept["seed"] == 3
    assert kept["tasks"] == tasks().description
    assert kept["policy"] == dict(tiny().description)
    assert kept["optimiser"]["learning_rate"] == 1e-3
    assert kept["algorithm"]["name"] == "grpo"
    assert kept["held_out"] is None and kept["limits"]["max_new_tokens"] == 3
    assert "run" not in kept and "progress" not in kept


def test_a_directory_is_a_policy(tmp_path: Path) -> None:
    tiny().export(tmp_path / "model")
    loaded = train(tmp_path / "loaded", policy=str(tmp_path / "model"))
    assert loaded.configuration["policy"]["name_or_directory"] == str(tmp_path / "model")
    assert rewards_of(loaded) == rewards_of(train(tmp_path / "built"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "grpo"}, r"algorithm='grpo' is no algorithm.(.|\n)*laurel\.grpo\(\)"),
        ({"algorithm": laurel.grpo}, r"is no algorithm.(.|\n)*laurel\.grpo\(\)"),
        ({"tasks": ROWS}, r"tasks is a list, not a TaskSet.(.|\n)*from_iterable"),
        ({"held_out": ROWS}, "held_out is a list, not a TaskSet"),
        ({"reward": laurel.rewards.exact_match}, r"makes the reward.(.|\n)*call it: exact_match\(\)"),
        ({"reward": None}, "'grpo' needs a reward"),
        ({"environment": laurel.environments.SingleTurn}, r"is a class(.|\n)*make one: SingleTurn\(\)"),
        ({"steps": 2.0}, "steps must be a whole number from 1, got 2.0"),
        ({"samples_per_prompt": 1}, "samples_per_prompt=1 teaches it nothing"),
        (
            {"samples_per_prompt": 1, "algorithm": laurel.reinforce_plus_plus(group_baseline=True)},
            "samples_per_prompt=1 teaches it nothing",
        ),
        ({"samples_per_prompt": 1, "algorithm": laurel.rloo()}, "'rloo' compares the samples"),
        ({"prompts_per_step": 2, "algorithm": laurel.grpo(minibatches=3)}, "3 minibatches of 2 prompts per step"),
        ({"evaluate_every": 2}, "'evaluate_every' would not be read: without held_out tasks"),
        ({"algorithm": laurel.clone()}, "'samples_per_prompt' would not be read: 'clone' learns from demonstrations"),
        ({"trackers": ["nobody"]}, "unknown key 'nobody'"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_run_behind(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train(tmp_path, **changes)
    assert not (tmp_path / "run").exists()


def test_one_sample_is_enough_for_a_method_without_comparison(tmp_path: Path) -> None:
    assert train(tmp_path, algorithm=laurel.reinforce(), samples_per_prompt=1).steps() == [1, 2]


def test_settings_at_their_defaults_count_as_left_out(tmp_path: Path) -> None:
    run = train(
        tmp_path, algorithm=laurel.clone(), reward=None, limits=None, samples_per_prompt=None, evaluation_samples=1
    )
    assert run.steps() == [1, 2]


class Hidden:
    """An environment whose prompt has nothing to do with the task's text."""

    def start(self, task: Task, rollout_id: str) -> SingleTurnEpisode:
        return SingleTurnEpisode("01>")


def test_an_environment_writes_its_own_prompts_so_that_those_of_tasks_are_not_judged(tmp_path: Path) -> None:
    long = laurel.tasks.from_iterable([{"question": "123456789>", "answer": "1"}])
    with pytest.raises(TaskError, match=r"tasks-1 \(10 tokens\)"):
        train(tmp_path, tasks=long)
    assert train(tmp_path, tasks=long, environment=Hidden()).steps() == [1, 2]


def test_an_interrupted_run_stops_for_failures_in_a_row_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    grading = laurel.rewards.GradingSettings(failure_fraction=1.0, failures_in_a_row=40)
    broken = laurel.rewards.in_process(lambda task, text: float("nan"))
    settings = {"reward": broken, "grading": grading, "checkpoint_every": 1}
    for name, parts in (("whole", [4]), ("parts", [1, 2, 4])):  # 16 rollouts a step: the 40th is in the third
        for index, steps in enumerate(parts):
            directory = tmp_path / name / "run"
            if steps < 4:
                train(tmp_path, **settings, run=directory, steps=steps, resume=index > 0)
                continue
            with pytest.raises(RewardError, match="40 in a row"):
                train(tmp_path, **settings, run=directory, steps=steps, resume=index > 0)
            with Run.open(directory) as run:
                assert run.steps() == [1, 2], name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed must be a whole number from 0, got -1"),
        ({"run": None}, "run=None is no directory"),
        ({"sampling": {"temperature": 1.0}}, "sampling is a dict, not Sampling"),
        ({"sampling": laurel.Sampling(temperature=float("inf"))}, "sampling.temperature is inf"),
        ({"algorithm": laurel.reinforce(baseline=float("inf"))}, "algorithm.credit.baseline is inf"),
    ],
)
def test_what_would_fail_later_in_other_words_is_refused_by_its_name(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train(tmp_path, **changes)
    assert not (tmp_path / "run").exists()


def test_a_policy_may_be_a_path(tmp_path: Path) -> None:
    tiny().export(tmp_path / "model")
    assert train(tmp_path, policy=tmp_path / "model", steps=1).steps() == [1]


@pytest.mark.parametrize(
    "wrong", [{"layers": 0}, {"hidden_size": 0}, {"context_length": 1}, {"heads": 0}, {"seed": -1}]
)
def test_a_tiny_policy_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(laurel.LaurelError, match=next(iter(wrong))):
        laurel.policy.tiny(**wrong)  # type: ignore[arg-type]


def test_weights_that_are_not_finite_are_never_checkpointed(tmp_path: Path) -> None:
    policy = laurel.policy.tiny(alphabet="01>", hidden_size=16, layers=1, heads=2, context_length=8)
    tasks = laurel.tasks.from_iterable([{"question": "01>", "answer": "1"}])

    def broken(step: int, metrics: object, timings: object) -> None:
        if step == 2:
            next(iter(policy.tensors().values())).fill_(float("inf"))

    progress = Silent()
    progress.step = broken  # type: ignore[method-assign]
    with pytest.raises(LearnerError, match=r"After step 2 '.*' of the policy is not finite"):
        laurel.train(
            policy=policy, tasks=tasks, algorithm=laurel.clone(), steps=2, prompts_per_step=1, checkpoint_every=2,
            run=tmp_path / "run", progress=progress, optimiser=laurel.OptimiserSettings(learning_rate=1e-9),
        )  # fmt: skip
    with laurel.Run.open(tmp_path / "run") as run:
        assert run.checkpoint_steps == []


def test_a_watched_reward_judges_the_held_out_answers_and_teaches_nothing(tmp_path: Path) -> None:
    rows = [{"question": f"{number:02d}>", "answer": str(number % 10)} for number in range(24)]
    tasks = laurel.tasks.from_iterable(rows)

    @laurel.rewards.in_process
    def any_digit(task: Task, text: str) -> float:
        return float(text[:1].isdigit())

    def final_weights(**watched: Any) -> tuple[Run, list[Any]]:
        policy = laurel.policy.tiny(alphabet="0123456789>", hidden_size=16, layers=1, heads=2, context_length=8)
        run = laurel.train(
            policy=policy, tasks=tasks[:16], held_out=tasks[16:], reward=any_digit, algorithm=laurel.grpo(), steps=2,
            limits=laurel.Limits(max_new_tokens=2), run=tmp_path / f"run{len(watched)}", **watched,
        )  # fmt: skip
        return run, [tensor.tolist() for tensor in policy.tensors().values()]

    _, plain = final_weights()
    run, watched = final_weights(watched_reward=laurel.rewards.exact_match())
    assert watched == plain
    scores = {(evaluation.name, evaluation.step): evaluation.metric for evaluation in run.evaluations()}
    assert set(scores) == {(name, step) for name in ("held_out", "watched") for step in (0, 2)}
    right = {tree.task_id: tasks.by_id[tree.task_id].reference for tree in run.evaluation_trees("watched", 2)}
    told = [r.text == right[t.task_id] for t in run.evaluation_trees("held_out", 2) for r in t.rollouts]
    assert scores["watched", 2].sum == sum(told) <= scores["held_out", 2].sum


def test_memory_that_runs_out_is_named_and_the_run_goes_on_in_smaller_pieces(tmp_path: Path) -> None:
    policy = laurel.policy.tiny(alphabet="0123456789>", hidden_size=16, layers=1, heads=2, context_length=8)
    calls = itertools.count()

    def greedy(*_: object) -> None:
        if next(calls) > 8:
            torch.empty(1 << 60, dtype=torch.uint8)

    hook = policy.model.get_decoder().register_forward_pre_hook(greedy)
    settings = {"policy": policy, "checkpoint_every": 1, "steps": 40}
    with pytest.raises(LearnerError, match=r"Memory ran out while (sampling|learning) in step \d(.|\n)*lower "):
        train(tmp_path, **settings)
    with Run.open(tmp_path / "run") as run:
        assert run.status.state == "failed" and "Memory ran out" in run.status.reason
    hook.remove()
    assert train(tmp_path, **settings, tokens_per_microbatch=8, resume=True).status.state == "finished"
