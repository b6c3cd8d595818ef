"""Held-out judgements of a run that learns from judged answers: what is reported, refused, repeated and learned."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from test_judged import ROWS, THUMBS, recipe, tiny, train
from test_resume_kinds import killed_and_resumed

import laurel
from laurel.algorithms import METHODS
from laurel.errors import ConfigurationError, TaskError
from laurel.judged_evaluation import SAID
from laurel.preferences import pairs, rankings, thumbs
from laurel.progress import Terminal
from laurel.recipe import read, resolve
from laurel.runs import Run
from laurel.tree import Score

HELD = pairs(rows=ROWS[20:])
TIE = rankings(rows=[{"prompt": "99>", "answers": ["1", "2"], "r": [1, 1]}], ranks="r")

LONG = pairs(rows=[{"prompt": "999>", "chosen": "1", "rejected": "2"}])
QUESTION = laurel.tasks.from_iterable([{"question": "99>", "answer": "1"}])


def course(run: Run, name: str) -> list[tuple[int, float]]:
    return [(one.step, one.metric.mean) for one in run.evaluations() if one.name == name]


@pytest.mark.parametrize("name", ["dpo", "ipo", "kto", "orpo", "simpo"])
def test_every_direct_method_reports_accuracy_margin_and_loss(name: str, tmp_path: Path) -> None:
    shown = Console(width=200, record=True, file=io.StringIO())
    run = train(
        tmp_path, algorithm=METHODS[name](), tasks=pairs(rows=ROWS[:20]), held_out=HELD, evaluate_every=2,
        progress=Terminal(shown),
    )  # fmt: skip
    found = {measure: course(run, measure) for measure in ("accuracy", "margin", "loss")}
    assert all([step for step, _ in values] == [0, 2, 3] for values in found.values())
    assert sorted({one.name for one in run.evaluations()}) == ["accuracy", "loss", "margin"]
    assert all(one.metric.count == 10 for one in run.evaluations())
    start = {"dpo": np.log(2), "ipo": 25.0, "kto": 0.5}
    if name in start:  # the policy is its own reference: every implicit reward is 0, and order is a coin
        assert found["accuracy"][0][1] == 0.5 and found["margin"][0][1] == pytest.approx(0, abs=1e-9)
        assert found["loss"][0][1] == pytest.approx(start[name], rel=1e-6)
    printed = shown.export_text()
    assert (
        "after step 3: accuracy: 0." in printed and "] over 10 tasks" in printed and "after step 0: margin" in printed
    )
    right = []
    for tree in run.evaluation_trees("accuracy", 3):
        scores = [rollout.outcome.score for rollout in tree.rollouts if rollout.outcome is not None]
        better, worse = (score.parts[SAID] for score in scores if isinstance(score, Score))
        right.append(better > worse)
    if name != "kto":
        assert found["accuracy"][-1][1] == np.mean(right)


def test_the_accuracy_on_pairs_that_follow_one_rule_rises(tmp_path: Path) -> None:
    """The even digit is the better one, whatever the prompt."""
    rows = [{"prompt": f"{n:02d}>", "chosen": str(n * 2 % 10), "rejected": str((n * 4 + 1) % 10)} for n in range(40)]
    run = train(tmp_path, tasks=pairs(rows=rows[:30]), held_out=pairs(rows=rows[30:]), steps=12)
    accuracy, margin, loss = (dict(course(run, name)) for name in ("accuracy", "margin", "loss"))
    assert accuracy[0] == 0.5 and accuracy[12] > 0.9
    assert margin[12] > 0.1 and loss[12] < np.log(2) - 0.05


def test_held_out_judgements_teach_nothing(tmp_path: Path) -> None:
    runs = [
        train(tmp_path / name, tasks=pairs(rows=ROWS[:20]), **changes)
        for name, changes in {"alone": {}, "beside": {"held_out": HELD, "evaluate_every": 1}}.items()
    ]
    weights = [run.load_checkpoint().tensors["policy"] for run in runs]  # type: ignore[union-attr]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_prompts_that_are_tied_are_in_no_mean(tmp_path: Path) -> None:
    rows = [{"prompt": row["prompt"], "answers": [row["chosen"], row["rejected"]], "r": [1, 2]} for row in ROWS[20:]]
    tied = [{"prompt": "99>", "answers": ["1", "2"], "r": [1, 1]}]
    run = train(tmp_path, tasks=pairs(rows=ROWS[:20]), held_out=rankings(rows=rows + tied, ranks="r"), steps=1)
    assert {one.metric.count for one in run.evaluations()} == {10}


def test_kto_judges_thumbs_that_were_held_out(tmp_path: Path) -> None:
    run = train(
        tmp_path, algorithm=laurel.kto(), tasks=thumbs(rows=THUMBS[:20]), held_out=thumbs(rows=THUMBS[20:]), steps=2
    )
    assert [step for step, _ in course(run, "accuracy")] == [0, 2]
    assert "answers      0.500 ->" in str(run.summary())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"held_out": pairs(rows=ROWS[:2])}, TaskError, "held"),
        ({"held_out": TIE}, TaskError, "in 'preferences' none is better than another"),
        ({"policy": tiny(context_length=5), "held_out": LONG}, TaskError, r"too long for .* \(row 1\)"),
        ({"held_out": HELD, "limits": laurel.Limits(max_new_tokens=2)}, ConfigurationError, "'limits' would not be"),
        ({"held_out": HELD, "evaluation_samples": 2}, ConfigurationError, "held-out ones: nothing is drawn"),
        ({"held_out": HELD, "watched_reward": laurel.rewards.exact_match()}, ConfigurationError, "'watched_reward'"),
        ({"held_out": QUESTION}, ConfigurationError, "without a reward(.|\n)*hold out judged answers"),
        ({"held_out": HELD, "algorithm": laurel.clone()}, ConfigurationError, "cannot be scored without a reward"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_before_a_run(
    changes: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        train(tmp_path, **{"tasks": pairs(rows=ROWS[:20]), **changes})
    assert not (tmp_path / "run").exists()


def test_with_a_reward_answers_are_drawn_as_before(tmp_path: Path) -> None:
    run = train(
        tmp_path, tasks=pairs(rows=ROWS[:20]), held_out=HELD, reward=laurel.rewards.exact_match(),
        limits=laurel.Limits(max_new_tokens=2), steps=1,
    )  # fmt: skip
    assert {one.name for one in run.evaluations()} == {"held_out"}


def test_a_recipe_holds_out_a_part_of_its_pairs_or_names_others(tmp_path: Path) -> None:
    run = laurel.train(**resolve(read(recipe(tmp_path, held_out=0.2, algorithm="simpo")), laurel.train))
    assert [one.metric.count for one in run.evaluations() if one.name == "accuracy"] == [6, 6]
    assert "accuracy" in str(run.summary()) and "(means of 6 and 6 tasks)" in str(run.summary())
    other = tmp_path / "other"
    other.mkdir()
    written = recipe(other, tasks={"name": "pairs", "rows": ROWS[:20]}, held_out={"name": "pairs", "rows": ROWS[20:]})
    assert "held-out tasks" in str(laurel.explain(written)) and laurel.check(written).passed


@pytest.mark.parametrize("moment", ["after_evaluation:3", "after_update:4"])
@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_killed_and_resumed_is_uninterrupted(name: str, moment: str, tmp_path: Path) -> None:
    def changes() -> dict[str, Any]:
        return {
            "algorithm": METHODS[name](), "tasks": pairs(rows=ROWS[:20]), "held_out": HELD, "reward": None,
            "limits": None, "samples_per_prompt": None,
        }  # fmt: skip

    with killed_and_resumed(tmp_path, moment, changes) as run:
        assert [step for step, _ in course(run, "accuracy")] == [0, 3, 4]
