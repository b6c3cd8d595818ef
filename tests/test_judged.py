"""Judged answers as experience: their trees, what is refused before a run, recipes, and a run from start to end."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

import laurel
from laurel.algorithms import METHODS, Compared
from laurel.credit import Preferred
from laurel.errors import ConfigurationError, TaskError
from laurel.judged import JudgedExperience, comparison, judged, with_mismatched
from laurel.preferences import Kind, Preference, pairs, rankings, thumbs
from laurel.recipe import read, resolve
from laurel.rollout import Job, LocalSampler
from laurel.runs import Run
from laurel.tasks import Task
from laurel.tree import MISMATCHED, Score, Source

ROWS = [{"prompt": f"{n:02d}>", "chosen": str(n % 10), "rejected": str((n + 3) % 10)} for n in range(30)]
THUMBS = [{"prompt": f"{n:02d}>", "completion": str(n % 10), "label": n % 2 == 0} for n in range(30)]
METHOD_NAMES = ["dpo", "ipo", "kto", "orpo", "simpo"]


def tiny(**changes: Any) -> laurel.policy.Policy:
    settings = {"alphabet": "0123456789>", "hidden_size": 16, "layers": 1, "heads": 2, "context_length": 8, **changes}
    return laurel.policy.tiny(**settings)


def train(directory: Path, **changes: Any) -> Run:
    arguments: dict[str, Any] = {
        "policy": tiny(),
        "tasks": pairs(rows=ROWS),
        "algorithm": laurel.dpo(),
        "prompts_per_step": 6,
        "steps": 3,
        "optimiser": laurel.OptimiserSettings(learning_rate=1e-2),
        "run": directory / "run",
    }
    return laurel.train(**{**arguments, **changes})


def test_a_pair_is_two_leaves_under_one_prompt() -> None:
    policy = tiny()
    tree = comparison(policy, Preference("p", "12>", answers=("34", "5"), scores=(1.0, 0.0)), "1.0")
    prompt, first, second = tree.segments
    assert (prompt.source, first.parent, second.parent) == (Source.PROMPT, 0, 0)
    assert policy.decode(first.tokens) == "34" and int(first.tokens[-1]) in policy.end_ids
    assert [rollout.outcome.score for rollout in tree.rollouts if rollout.outcome] == [Score(1.0), Score(0.0)]
    assert [rollout.id for rollout in tree.rollouts] == ["1.0.0", "1.0.1"] and tree.task_id == "p"
    assert len(tree.flat) == 3 + 3 + 2  # the prompt once


def test_mismatched_answers_come_from_the_next_prompt_in_a_circle() -> None:
    policy = tiny()
    made = [
        comparison(policy, Preference(f"{n}", f"0{n}>", answers=(f"{n}",), scores=(1.0,), kind=Kind.THUMB), f"1.{n}")
        for n in range(3)
    ]
    widened = with_mismatched(made)
    assert [tree.segments[2].text for tree in widened] == ["1", "2", "0"]
    for tree in widened:
        last = tree.rollouts[-1].outcome
        assert last is not None and last.score == MISMATCHED and last.left_out and last.failed


def test_experience_counts_prompts_that_teach_nothing() -> None:
    rows = [
        {"prompt": "01>", "answers": ["1", "2"], "r": [1, 1]},
        {"prompt": "02>", "answers": ["1", "2"], "r": [1, 2]},
    ]
    tasks = rankings(rows=rows, ranks="r")
    found = JudgedExperience(Compared(), tiny(), tasks.cursor(0), 2, Preferred())(1, 0)
    silent = found.metrics["groups_without_signal"]
    assert (silent.sum, silent.count) == (1, 2) and found.metrics["answer_tokens"].mean == 2
    assert len(found.trees) == 2 and "reward" not in found.metrics


def test_mismatched_answers_are_to_other_prompts_also_where_prompts_stand_several_times() -> None:
    rows = [(prompt, str(number)) for number, prompt in enumerate(["01>", "01>", "02>", "01>", "02>"])]
    tasks = thumbs(rows=[{"prompt": prompt, "completion": said, "label": True} for prompt, said in rows])
    made = [comparison(tiny(), judged(task), task.id) for task in tasks]
    # The next other prompt, round the end: of the first two that of "2", of the last that of "0".
    assert [tree.segments[-1].text for tree in with_mismatched(made)] == ["2", "2", "3", "4", "0"]


def test_mismatched_answers_fit_the_context() -> None:
    """Of the long prompt only the short answer; where none fits, the tree has no answer to another prompt."""
    texts = [("012345>", "1"), ("2>", "123456"), ("3>", "12")]
    made = [
        comparison(
            tiny(context_length=10), Preference(text, text, answers=(said,), scores=(1.0,), kind=Kind.THUMB), text
        )
        for text, said in texts
    ]
    widened = with_mismatched(made, room=10)
    assert [tree.segments[-1].text for tree in widened] == ["12", "12", "1"]
    assert len(with_mismatched(made[:2], room=10)[0].segments) == 2


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_every_method_runs_and_reports(name: str, tmp_path: Path) -> None:
    run = train(tmp_path, algorithm=METHODS[name]())
    assert run.steps() == [1, 2, 3]
    reported = {"preference/chosen", "preference/rejected"}
    reported |= {"preference/divergence"} if name == "kto" else {"preference/margin", "preference/accuracy"}
    for metric in reported:
        assert all(np.isfinite(value.mean) for _, value in run.metric(metric)) and run.metric(metric)
    start = {"dpo": np.log(2), "ipo": 25.0, "kto": 0.5}
    if name in start:  # the policy is its own reference: every log-ratio is 0
        assert run.metric("loss")[0][1].mean == pytest.approx(start[name], rel=1e-6)
        assert run.metric("preference/chosen")[0][1].mean == 0
    (tree, *_) = run.trees(1)
    assert len(tree.leaves) == (3 if name == "kto" else 2)
    (credit, *_) = run.credits(1)
    assert set(np.sign(credit.advantages[credit.mask])) >= {1.0, -1.0}


def test_kto_learns_from_thumbs_on_single_answers(tmp_path: Path) -> None:
    run = train(tmp_path, algorithm=laurel.kto(), tasks=thumbs(rows=THUMBS), steps=2)
    assert run.steps() == [1, 2]


def test_clone_learns_the_better_answers_of_the_same_set(tmp_path: Path) -> None:
    run = train(tmp_path, algorithm=laurel.clone())
    assert {tree.rollouts[0].text for step in run.steps() for tree in run.trees(step)} <= {r["chosen"] for r in ROWS}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"tasks": laurel.tasks.from_iterable([{"question": "1>", "answer": "1"}])}, TaskError, "no judged answers"),
        ({"tasks": thumbs(rows=THUMBS)}, TaskError, "none is better(.|\n)*learns kto"),
        (
            {"policy": tiny(context_length=4)},
            TaskError,
            r"30 rows left out: too long for the policy's context \(30 rows: 1, 2",
        ),
        ({"samples_per_prompt": 2}, ConfigurationError, "'dpo' learns from judged answers"),
        ({"algorithm": laurel.kto(), "prompts_per_step": 1}, ConfigurationError, "at least 2"),
        (
            {"algorithm": laurel.kto(), "tasks": thumbs(rows=[{**row, "prompt": "1>"} for row in THUMBS[:4]])},
            TaskError,
            "has one prompt",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_a_run(
    changes: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        train(tmp_path, **changes)
    assert not (tmp_path / "run").exists()


def test_a_plain_task_is_no_preference() -> None:
    with pytest.raises(TaskError, match=r"laurel\.preferences\.pairs"):
        judged(Task("t", "p"))


def recipe(directory: Path, **changes: Any) -> Path:
    rows = [*ROWS, {"prompt": "99>", "chosen": "1", "rejected": "1"}]
    (directory / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {
        "policy": {"name": "tiny", "alphabet": "0123456789>", "hidden_size": 16, "layers": 1, "heads": 2},
        "tasks": {"name": "pairs", "path": str(directory / "pairs.jsonl")},
        "algorithm": {"name": "dpo", "beta": 0.2, "label_smoothing": 0.1},
        "steps": 2,
        "run": str(directory / "run"),
        **changes,
    }
    path = directory / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def said(renderable: Any) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_a_recipe_names_the_source_and_explain_says_the_equation_and_what_was_left_out(tmp_path: Path) -> None:
    arguments = resolve(read(recipe(tmp_path)), laurel.train)
    text = said(laurel.explain(arguments))
    assert "0.9 log sigmoid(m) + 0.1 log sigmoid(-m), m = 0.2 (r(w) - r(l)), r(y) = log pi(y)/ref(y)" in text
    assert "1 row left out: identical answers (row 31)" in text
    assert "8 prompts x 2 samples" in text and "available  judged answers" in text
    run = laurel.train(**arguments)
    assert run.configuration["tasks"]["left_out"] == {"identical answers": 1}


def test_a_strict_recipe_stops_at_the_bad_row(tmp_path: Path) -> None:
    source = {"name": "pairs", "path": str(tmp_path / "pairs.jsonl"), "strict": True}
    with pytest.raises(TaskError, match="line 31: both answers are the same"):
        resolve(read(recipe(tmp_path, tasks=source)), laurel.train)


def test_a_number_splits_preferences_off(tmp_path: Path) -> None:
    path = recipe(tmp_path, held_out=10, reward="exact_match", limits={"max_new_tokens": 2})
    run = laurel.train(**resolve(read(path), laurel.train))
    assert [evaluation.step for evaluation in run.evaluations()] == [0, 2]


def preferred_share(policy: laurel.policy.Policy, tasks: laurel.tasks.TaskSet) -> float:
    """How often a sample is the better answer."""
    sampler = LocalSampler(policy, laurel.Sampling(), laurel.Limits(max_new_tokens=3), seed=0)
    trees = sampler.collect([Job(task.id, task, 8, None) for task in tasks], policy_version=0)
    right = [r.text == task.reference for tree, task in zip(trees, tasks, strict=True) for r in tree.rollouts]
    return float(np.mean(right))


def test_dpo_raises_the_preferred_behaviour_on_prompts_that_it_never_saw(tmp_path: Path) -> None:
    """Any two digits may be answered by "+" or "-". The start is cloned from both alike; "+" is preferred."""
    rows = [{"prompt": f"{number:02d}>", "chosen": "+", "rejected": "-"} for number in range(100)]
    training, held_out = pairs(rows=rows).split(20)
    policy = tiny(alphabet="0123456789>+-", hidden_size=32)
    both = [{"question": row["prompt"], "answer": row[side]} for row in rows for side in ("chosen", "rejected")]
    laurel.train(
        policy=policy, tasks=laurel.tasks.from_iterable(both), algorithm=laurel.clone(), steps=20, prompts_per_step=40,
        optimiser=laurel.OptimiserSettings(learning_rate=1e-2), run=tmp_path / "clone",
    )  # fmt: skip
    before = preferred_share(policy, held_out)
    run = laurel.train(
        policy=policy, tasks=training, algorithm=laurel.dpo(beta=0.5), steps=20, prompts_per_step=20,
        optimiser=laurel.OptimiserSettings(learning_rate=3e-3), run=tmp_path / "dpo",
    )  # fmt: skip
    after = preferred_share(policy, held_out)
    assert 0.3 < before < 0.6
    assert after > 0.85
    assert run.metric("preference/accuracy")[-1][1].mean == 1
    chosen, rejected = (run.metric(f"preference/{side}")[-1][1].mean for side in ("chosen", "rejected"))
    assert rejected < -0.5 < chosen


def test_online_dpo_learns_from_the_best_and_the_worst_of_its_own_samples(tmp_path: Path) -> None:
    rows = [{"question": f"{number:02d}>", "answer": "5"} for number in range(40)]

    @laurel.rewards.in_process
    def nearness(task: Task, text: str) -> float:
        return -abs(int(text[0]) - 5) / 10 if text[:1].isdigit() else -1.0

    run = laurel.train(
        policy=tiny(), tasks=laurel.tasks.from_iterable(rows), reward=nearness, algorithm=laurel.online_dpo(beta=0.5),
        steps=25, prompts_per_step=8, samples_per_prompt=4, limits=laurel.Limits(max_new_tokens=2),
        optimiser=laurel.OptimiserSettings(learning_rate=1e-2), run=tmp_path / "run",
    )  # fmt: skip
    for tree, credit in zip(run.trees(1), run.credits(1), strict=True):
        assert len(tree.leaves) == 4
        taking_part = [
            rollout.reward
            for rollout, segment in zip(tree.rollouts, tree.leaves, strict=True)
            if credit.mask[tree.flat.segment == segment].any()
        ]
        scores = [rollout.reward for rollout in tree.rollouts]
        assert sorted(taking_part) == ([min(scores), max(scores)] if len(set(scores)) > 1 else [])
    rewards = [value.mean for _, value in run.metric("reward")]
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.15


def test_online_dpo_needs_two_samples(tmp_path: Path) -> None:
    settings = {
        "tasks": laurel.tasks.from_iterable([{"question": "1>", "answer": "1"}]),
        "algorithm": laurel.online_dpo(),
    }
    with pytest.raises(ConfigurationError, match="samples_per_prompt=1 teaches it nothing"):
        train(tmp_path, **settings, reward=laurel.rewards.exact_match(), samples_per_prompt=1)


def test_spin_holds_its_samples_against_the_demonstrations(tmp_path: Path) -> None:
    rows = [{"question": f"{number:02d}>", "answer": "57"[number % 2]} for number in range(40)]
    run = laurel.train(
        policy=tiny(), tasks=laurel.tasks.from_iterable(rows), algorithm=laurel.spin(epochs=2), samples_per_prompt=4,
        steps=20, prompts_per_step=8, limits=laurel.Limits(max_new_tokens=2), run=tmp_path / "run",
        optimiser=laurel.OptimiserSettings(learning_rate=1e-2),
    )  # fmt: skip
    (tree, *_) = run.trees(3)
    assert [rollout.reward for rollout in tree.rollouts] == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert tree.rollouts[4].text in ("5", "7") and tree.segments[1].policy_version == 4

    def right(*steps: int) -> float:
        drawn = [rollout.text for step in steps for tree in run.trees(step) for rollout in tree.rollouts[:4]]
        return float(np.mean([text[:1] in ("5", "7") for text in drawn]))

    assert right(18, 19, 20) > right(1, 2) + 0.25


def test_spin_needs_reference_answers(tmp_path: Path) -> None:
    bare = laurel.tasks.from_iterable([{"question": "1>"}], reference=None)
    with pytest.raises(TaskError, match="no reference answer"):
        train(tmp_path, tasks=bare, algorithm=laurel.spin())
