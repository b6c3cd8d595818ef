"""Every kind of judgement from every kind of file, as text and as conversation, into a fit and into direct methods."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import laurel
from laurel import preferences
from laurel.algorithms import Algorithm, dpo, ipo, kto, orpo, simpo
from laurel.errors import TaskError
from laurel.fitting import objective_for
from laurel.judged import comparison, with_mismatched
from laurel.learner import Learner, OptimiserSettings, RewardLearner
from laurel.objectives import Ordinal, RewardObjective
from laurel.policy import Policy, reward_model_for, tiny
from laurel.preferences import JudgedSteps, Preference, PreferenceSet
from laurel.tree import Tree

Source = Callable[..., PreferenceSet]

# kind: (source, its settings, rows, what fits it where that does not follow from the judgements)
KINDS: dict[str, tuple[Source, dict[str, Any], list[dict[str, Any]], RewardObjective | None]] = {
    "pairs": (
        preferences.pairs,
        {},
        [{"prompt": "ab", "chosen": "a", "rejected": "b"}, {"prompt": "b", "chosen": "ba", "rejected": "a"}],
        None,
    ),
    "rankings": (
        preferences.rankings,
        {"ranks": "ranks"},
        [
            {"prompt": "ab", "answers": ["a", "b", "ab"], "ranks": [2, 1, 3]},
            {"prompt": "b", "answers": ["a", "b", "ab"], "ranks": [1, 2, 3]},
        ],
        None,
    ),
    "ties": (
        preferences.rankings,
        {"ranks": "ranks"},
        [
            {"prompt": "ab", "answers": ["a", "b", "ab"], "ranks": [1, 1, 2]},
            {"prompt": "b", "answers": ["a", "b"], "ranks": None},
        ],
        None,
    ),
    "ratings": (
        preferences.ratings,
        {"low": 1, "high": 5},
        [{"prompt": "ab", "answers": ["a", "b"], "ratings": [5, 2]}, {"prompt": "b", "answers": ["a"], "ratings": [3]}],
        Ordinal(1, 5),
    ),
    "thumbs": (
        preferences.thumbs,
        {},
        [{"prompt": "ab", "completion": "a", "label": True}, {"prompt": "b", "completion": "b", "label": False}],
        None,
    ),
    "steps": (
        preferences.step_labels,
        {"separator": ";"},
        [
            {"prompt": "ab", "completions": ["a", "b"], "labels": [1.0, 0.0]},
            {"prompt": "b", "completions": ["b"], "labels": [0.5]},
        ],
        None,
    ),
}
SIDES = ("chosen", "rejected", "completion", "answers", "completions")


def spoken(row: dict[str, Any]) -> dict[str, Any]:
    """The same row as messages."""

    def message(text: str) -> dict[str, str]:
        return {"role": "assistant", "content": text}

    def side(value: Any) -> list[dict[str, str]]:
        return [message(text) for text in ([value] if isinstance(value, str) else value)]

    asked = [{"role": "user", "content": row["prompt"]}]
    return {**row, "prompt": asked, **{name: side(row[name]) for name in SIDES if name in row}}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "\n".join(map(json.dumps, rows))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix == ".jsonl":
        path.write_text(text)
    else:
        arrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), path)
    return path


def policy() -> Policy:
    made = tiny(alphabet="ab;>", hidden_size=16, layers=1, heads=2, context_length=16)
    made.tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}{% if m.role == 'user' %}>{% endif %}{% endfor %}"
    )
    return made


def trees_of(reader: Policy, tasks: PreferenceSet) -> list[Tree]:
    return [comparison(reader, task, task.id) for task in tasks if isinstance(task, Preference)]


@pytest.mark.parametrize("said", [False, True], ids=["text", "conversation"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_files_of_a_kind_fit_the_same_reward_model(kind: str, said: bool, tmp_path: Path) -> None:
    source, settings, rows, objective = KINDS[kind]
    rows = [spoken(row) for row in rows] if said else rows
    fitted = []
    for name in ("set.jsonl", "set.jsonl.gz", "set.parquet"):
        tasks = source(write(tmp_path / name, rows), strict=True, **settings)
        assert len(tasks) == len(rows) - tasks.left_out.count
        reader = policy()
        optimiser = OptimiserSettings(learning_rate=1e-2)
        learner = RewardLearner(reward_model_for(reader), objective or objective_for(tasks), optimiser)
        metrics = learner.update(trees_of(reader, tasks))
        assert metrics["reward_model/loss"].mean > 0 and metrics["reward_model/gradient_norm"].mean > 0
        fitted.append(learner.model.head.detach().clone())
    assert torch.equal(fitted[0], fitted[1]) and torch.equal(fitted[0], fitted[2])


@pytest.mark.parametrize("method", [dpo, ipo, orpo, simpo, kto])
@pytest.mark.parametrize("kind", ["pairs", "rankings", "ties", "ratings", "thumbs"])
def test_every_direct_method_learns_from_what_it_can_read(
    kind: str, method: Callable[[], Algorithm], tmp_path: Path
) -> None:
    """Orders teach the methods that compare; kto reads a sign, for which thumbs and pairs are made."""
    source, settings, rows, _ = KINDS[kind]
    tasks = source(write(tmp_path / "set.jsonl", rows), strict=True, **settings)
    reader, algorithm = policy(), method()
    trees = trees_of(reader, tasks)
    if method is kto:
        trees = with_mismatched(trees) if len(trees) > 1 else trees
    reference = reader.snapshot("start") if algorithm.needs_reference else None
    learner = Learner(reader, algorithm, OptimiserSettings(learning_rate=1e-2), reference=reference)
    credits = learner.credit(trees)
    teaches = any(credit.carries_signal for credit in credits)
    assert teaches == (kind != "thumbs" or method is kto)
    assert not any(isinstance(task, JudgedSteps) for task in tasks)
    if method is not kto or len(trees) > 1:
        report = learner.update(trees, credits, 1)
        assert (report.skipped is None) == teaches


@pytest.mark.parametrize(("threshold", "says"), [(0.5, r"\(2 to 5\) lie above it"), (5.0, r"\(2 to 5\) lie below it")])
def test_a_threshold_outside_of_the_scale_is_refused_before_anything_starts(
    threshold: float, says: str, tmp_path: Path
) -> None:
    source, settings, rows, _ = KINDS["ratings"]
    tasks = source(rows=rows, **settings)
    with pytest.raises(TaskError, match=f"'kto' tells good answers from bad ones at {threshold:g}.*{says}"):
        laurel.train(policy=policy(), tasks=tasks, algorithm=kto(threshold=threshold), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    inside = laurel.train(
        policy=policy(), tasks=tasks, algorithm=kto(threshold=2.5), steps=1, prompts_per_step=2, run=tmp_path / "run"
    )
    assert inside.status.state == "finished"
