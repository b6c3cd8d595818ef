"""Process reward models from end to end: labels, a run that fits, best-of-n, and the reward of an online method."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import laurel as command
from command_line import write_rows
from test_resume import ended, in_child, result
from tokenizers.normalizers import Lowercase

import laurel
from laurel.algorithms.steps import in_steps
from laurel.errors import ConfigurationError, TaskError
from laurel.fitting import fit_reward_model, objective_for
from laurel.judged_steps import label_by_continuations, step_rows
from laurel.objectives import BradleyTerry, StepLabels
from laurel.policy import ProcessReward, load_reward_model
from laurel.preferences import pairs, step_labels
from laurel.rewards import Grader, in_process
from laurel.rollout import Job, Limits, LocalSampler
from laurel.runs import Run
from laurel.tasks import Task
from laurel.tree import Sampling, Score

ROWS = [
    {"prompt": f"{'ab' * n}>", "completions": [first, "b"], "labels": [float(first == "a"), None if n == 2 else 0.5]}
    for n in range(1, 5)
    for first in "ab"
]


def policy(**changes: Any) -> laurel.policy.Policy:
    settings = {"alphabet": "ab>;", "hidden_size": 16, "layers": 1, "heads": 2, "context_length": 24}
    return laurel.policy.tiny(**{**settings, **changes})


def fit(directory: Path, *, resume: bool = False, **changes: Any) -> Run:
    arguments: dict[str, Any] = {
        "policy": policy(),
        "tasks": step_labels(rows=ROWS[:6], separator=";"),
        "held_out": step_labels(rows=ROWS[6:], separator=";"),
        "steps": 6,
        "prompts_per_step": 4,
        "optimiser": laurel.OptimiserSettings(learning_rate=1e-2, schedule="linear"),
        "checkpoint_every": 2,
        "run": directory,
        "resume": resume,
    }
    return fit_reward_model(**{**arguments, **changes})


def test_what_was_said_of_every_labelled_step_is_recorded(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    with Run.open(tmp_path / "run") as run:
        trees = run.evaluation_trees("accuracy", 6)
        assert run.configuration["objective"] == {"type": "StepLabels"}
    model = load_reward_model(tmp_path / "run" / "model")
    assert model.head.abs().max() > 0
    assert len(trees) == 2
    for tree in trees:
        for rollout in tree.rollouts:
            assert rollout.outcome is not None and isinstance(rollout.outcome.score, Score)
            assert {"reward_model/step 1", "step 1"} <= set(rollout.outcome.score.parts)


@pytest.mark.parametrize("at", ["after_update:3", "after_update:5"])
def test_a_fit_that_was_killed_ends_as_if_it_had_not_been(at: str, tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole")
    killed = ended(in_child(lambda: fit(tmp_path / "cut"), {"LAUREL_KILL_AT": at}))
    assert killed == -signal.SIGKILL
    again = fit(tmp_path / "cut", resume=True)
    assert result(tmp_path / "whole") == result(tmp_path / "cut")
    files = [sorted((run.directory / "model").glob("*.safetensors")) for run in (whole, again)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_labels_of_steps_and_other_judgements_are_not_mixed_up(tmp_path: Path) -> None:
    sets = step_labels(rows=ROWS, separator=";"), pairs(rows=[{"prompt": "a>", "chosen": "a", "rejected": "b"}])
    assert objective_for(sets[0]) == StepLabels()
    for tasks, objective in zip(sets, (BradleyTerry(), StepLabels()), strict=True):
        with pytest.raises(ConfigurationError, match="does not read the judgements"):
            fit(tmp_path / "run", tasks=tasks, held_out=None, objective=objective)


def test_steps_that_the_tokenizer_cannot_tell_apart_are_named_before_anything_starts(tmp_path: Path) -> None:
    small = policy()
    small.tokenizer.backend_tokenizer.normalizer = Lowercase()
    rows = [ROWS[0], {"prompt": "a>", "completions": ["A", "b"], "labels": [1, 1]}]
    with pytest.raises(TaskError, match="Task preferences-2: its tokens do not give the text of its steps back"):
        fit(tmp_path / "run", policy=small, tasks=step_labels(rows=rows, separator=";", strict=True), held_out=None)
    assert not (tmp_path / "run").exists()
    run = fit(tmp_path / "run", policy=small, tasks=step_labels(rows=rows, separator=";"), held_out=None, steps=1)
    assert run.configuration["tasks"]["left_out"] == {"steps whose ends are not between tokens": 1}


@in_process
def has_a(task: Task, text: str) -> float:
    return float("a" in text)


def test_labels_by_continuations_make_a_model_whose_best_of_n_is_better(tmp_path: Path) -> None:
    """Nobody labelled a step: continuations say what each is worth, and the fitted model picks among new samples."""
    writer = policy(alphabet="abcdefgh>;", hidden_size=32)
    sampler = LocalSampler(writer, Sampling(), Limits(max_new_tokens=10), seed=0)
    tasks = [Task(f"{n}", f"{n % 3 * 'b'}{'cd'[n % 2]}>", None) for n in range(48)]
    with Grader(has_a) as grader:
        jobs = [Job(f"labels.{n}", task, 4, None) for n, task in enumerate(tasks)]
        trees, metrics = label_by_continuations(sampler, grader, jobs, separator=";", continuations=4)
        rows = step_rows(trees, {task.id: task for task in tasks})
        usable = [row for row in rows if all(step.strip() for step in row["completions"])]
        assert metrics["steps_without_label"].sum == 0 and len(usable) > 100
        (tmp_path / "steps.jsonl").write_text("\n".join(map(json.dumps, usable)))
        judged = step_labels(tmp_path / "steps.jsonl", separator=";", strict=True)
        settings = laurel.OptimiserSettings(learning_rate=1e-2, schedule="linear")
        run = fit_reward_model(
            policy=writer, tasks=judged, steps=40, prompts_per_step=24, optimiser=settings, run=tmp_path / "run"
        )
        fresh = [Job(f"fresh.{n}", task, 4, None) for n, task in enumerate(tasks)]
        drawn = [in_steps(tree, ";", writer.decode) for tree in sampler.collect(fresh, policy_version=0)]
        graded, _ = grader.grade(drawn, {task.id: task for task in tasks})
    reward = ProcessReward(load_reward_model(run.directory / "model"), writer=writer, aggregation="last")
    single, best = [], []
    for tree, task in zip(graded, tasks, strict=True):
        said = reward.score_rollouts([(task, rollout) for rollout in tree.rollouts])
        values = [score.value for score in said if isinstance(score, Score)]
        right = [rollout.reward for rollout in tree.rollouts]
        single.append(float(np.mean(right)))
        best.append(right[int(np.argmax(values))])
    # With four samples an oracle is right where one of them is.
    ceiling = float(np.mean([max(r.reward for r in tree.rollouts) for tree in graded]))
    assert np.mean(best) > np.mean(single) + 0.6 * (ceiling - np.mean(single)) > np.mean(single) + 0.1


RECIPE = """\
policy: {name: tiny, alphabet: "ab>;", hidden_size: 16, layers: 1, heads: 2, context_length: 24}
tasks: {name: step_labels, path: steps.jsonl, separator: ;}
steps: 3
prompts_per_step: 4
"""

ONLINE = """\
policy: {name: tiny, alphabet: "ab>;", hidden_size: 16, layers: 1, heads: 2, context_length: 24}
tasks: {name: jsonl, path: tasks.jsonl}
reward:
  name: weighted
  parts: {right: [exact_match, 1.0], steps: [{name: process_reward, model: runs/steps}, 0.0]}
algorithm: {name: step_ppo, separator: ;}
limits: {max_new_tokens: 8}
steps: 2
prompts_per_step: 2
"""


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "steps.jsonl", [*ROWS, {**ROWS[0], "labels": [1, 3]}, {**ROWS[0], "completions": ["a", ""]}])
    write_rows(tmp_path / "tasks.jsonl", [{"question": f"{'ab' * n}>", "answer": "a"} for n in range(1, 5)])
    (tmp_path / "steps.yaml").write_text(RECIPE)
    (tmp_path / "online.yaml").write_text(ONLINE)
    strict = command("fit-reward-model", "steps.yaml", "--strict")
    assert strict.status == 1 and "line 9" in strict.err and "the label 3 of a step" in strict.err
    fitted = command("fit-reward-model", "steps.yaml")
    assert fitted.status == 0, fitted.err
    assert "2 rows left out: ratings out of range (row 9); empty answers (row 10)" in fitted.out
    trained = command("train", "online.yaml")
    assert trained.status == 0, trained.err
    with Run.open("runs/online") as run:
        parts = [r.outcome.score.parts for tree in run.trees(1) for r in tree.rollouts if r.outcome is not None]
    assert all("steps/step 1" in own and 0 < own["steps/step 1"] < 1 for own in parts)
    assert command("eval", "runs/online", "--tasks", "tasks.jsonl").status == 0
    by_model = command("train", "online.yaml", "algorithm=rloo", "run=runs/best",
                       "reward={name: process_reward, model: runs/steps, aggregation: product}")  # fmt: skip
    assert by_model.status == 0, by_model.err
    whole = "reward={name: process_reward, model: runs/steps}"
    bare = "reward={name: weighted, parts: {steps: [exact_match, 1.0]}}"
    for reward in (whole, bare):
        refused = command("train", "online.yaml", reward, "run=runs/refused")
        assert refused.status == 1 and "does not have them there" in refused.err and not Path("runs/refused").exists()
    alone = command("explain", "online.yaml", whole, "algorithm.part=''")
    assert alone.status == 0, alone.err
    unknown = command("explain", "online.yaml", "reward={name: process_reward, model: runs/steps, aggregation: most}")
    assert unknown.status == 1 and "min" in unknown.err
