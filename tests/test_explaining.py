"""What `laurel explain` says of a fit and of rlhf, against what they then do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import test_fitting
import test_human_feedback

import laurel
from laurel.errors import ConfigurationError, TaskError
from laurel.fitting_plan import sizes_of
from laurel.human_feedback_stages import Labels
from laurel.objectives import BradleyTerry
from laurel.policy import reward_model_for
from laurel.preferences import SOURCES, pairs, rankings
from laurel.recipe import read
from laurel.recipe_target import target_of

RECIPES = Path(__file__).parents[1] / "recipes"
OTHERS = {"rlhf.yaml": laurel.rlhf, "reward_model.yaml": laurel.fit_reward_model}


def fit(**changes: Any) -> dict[str, Any]:
    return {
        "policy": test_fitting.policy(),
        "tasks": pairs(rows=test_fitting.rows(0, 40)),
        "held_out": pairs(rows=test_fitting.rows(40, 60)),
        "steps": 10,
        "prompts_per_step": 8,
        **changes,
    }


def flat(recipe: dict[str, Any]) -> str:
    return " ".join(str(laurel.explain(recipe)).split())


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_recipes_are_known_by_their_keys(path: Path) -> None:
    assert target_of(read(path)) is OTHERS.get(path.name, laurel.train)


def test_judged_answers_without_another_sign_are_fitted_to_and_other_tasks_trained_on() -> None:
    bare = {"policy": "x", "held_out": 0.1, "steps": 3}
    for name in SOURCES:
        assert target_of({**bare, "tasks": {"name": name}}) is laurel.fit_reward_model
        assert target_of({**bare, "tasks": {"name": name}, "algorithm": "dpo"}) is laurel.train
    assert target_of(fit()) is laurel.fit_reward_model
    assert target_of({**bare, "tasks": {"name": "jsonl"}}) is laurel.train  # where it is told what is missing


def test_tokens_of_a_fit_are_those_that_it_then_reads(tmp_path: Path) -> None:
    ragged = [{"prompt": f"{'ab' * n}>", "answers": ["a" * n, "b", "ab"], "ranks": [1, 2, 3]} for n in (2, 3, 4)]
    tasks = rankings(rows=ragged, ranks="ranks")
    settings = fit(tasks=tasks, prompts_per_step=3, steps=1, members=2)
    sizes = sizes_of(settings["policy"], tasks, settings["held_out"])
    assert (sizes.prompts, sizes.held_out, sizes.answers) == (3, 20, 3)
    assert sizes.largest == 9 + 5 + 2 + 3  # every answer with its end
    text = flat(settings)
    run = laurel.fit_reward_model(**settings, run=tmp_path / "run")
    (_, distinct), *_ = run.metric("distinct_tokens")
    assert distinct.sum == 2 * 3 * sizes.mean  # both members
    assert f"{3 * sizes.mean:.0f} distinct ones on average, at most 57 (a prompt with its answers: 19)" in text
    assert "20 held-out prompts, 2 times" in text and len({e.step for e in run.evaluations()}) == 2
    assert "PlackettLuce" in text and "1 times through the 3 prompts" in text


def test_memory_of_an_ensemble_is_counted_for_every_member() -> None:
    settings = fit(members=3, share=0.5)
    numbers = sum(p.numel() for p in reward_model_for(settings["policy"]).trainable_parameters().values())
    trunk = settings["policy"].parameter_count
    assert numbers == trunk + 16  # its head is the embedding, which is read
    text = flat(settings)
    assert f"trunk, 3 times {4 * trunk / 1024:.1f} KiB" in text
    assert f"gradients, moments and masters, 3 times {12 * numbers / 1024:.1f} KiB" in text
    assert "3 reward models, an ensemble" in text and "each from its own 20 of the 40 prompts" in text
    alone = flat(fit(learns_trunk=False))
    assert f"{12 * 16 / 1:.1f} B gradients, moments and masters" in alone and "activations" not in alone
    assert "1 over each distinct token, forward" in alone


def test_reward_models_that_pay_are_counted_too(tmp_path: Path) -> None:
    laurel.fit_reward_model(**fit(members=2, steps=1), run=tmp_path / "judge")
    online = {
        "policy": test_fitting.policy(1),
        "tasks": laurel.tasks.from_iterable([{"question": "ab>", "answer": "a"}]),
        "algorithm": laurel.rloo(),
        "limits": laurel.Limits(max_new_tokens=3),
    }
    each = test_fitting.policy().parameter_count + 16
    assert f"{2 * 4 * each / 1024:.1f} KiB 2 reward models" in flat({**online, "reward": str(tmp_path / "judge")})


def test_whoever_scores_steps_is_counted_too(tmp_path: Path) -> None:
    rows = [{"prompt": "ab>", "completions": ["a", "b"], "labels": [1, 0]}]
    steps = {"policy": test_fitting.policy(), "tasks": laurel.preferences.step_labels(rows=rows, separator="ba")}
    laurel.fit_reward_model(**steps, steps=1, prompts_per_step=1, run=tmp_path / "process")
    parameters = test_fitting.policy().parameter_count
    implicit = laurel.policy.ImplicitProcessReward(
        test_fitting.policy(2), test_fitting.policy(3).snapshot("start"), beta=1.0
    )
    judge = laurel.rewards.step_scores(laurel.policy.StepJudge(test_fitting.policy(4), yes="a", no="b"))
    online = {
        "policy": test_fitting.policy(1),
        "tasks": laurel.tasks.from_iterable([{"question": "ab>", "answer": "a"}]),
        "algorithm": laurel.step_ppo(part="process"),
        "limits": laurel.Limits(max_new_tokens=3),
    }
    saved = laurel.policy.SavedProcessReward(tmp_path / "process")
    for scorer, told in (
        (saved, f"{4 * (parameters + 16) / 1024:.1f} KiB reward model"),
        (implicit, f"{2 * 4 * parameters / 1024:.1f} KiB 2 scorers of steps"),
        (judge, f"{4 * parameters / 1024:.1f} KiB scorer of steps"),
    ):
        parts = {"right": (laurel.rewards.exact_match(), 1.0), "process": (scorer, 0.0)}
        assert told in flat({**online, "reward": laurel.rewards.weighted(parts)}), told
    soft = laurel.policy.SoftQReward(test_fitting.policy(5))
    plain = {**online, "algorithm": laurel.rloo(), "reward": soft}
    assert f"{4 * parameters / 1024:.1f} KiB reward model" in flat(plain)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be"),
        ({"held_out": pairs(rows=test_fitting.rows(39, 41))}, "trained on too"),
        ({"tasks": pairs(rows=[{"prompt": "a>", "chosen": "a" * 20, "rejected": "b"}])}, "too long"),
        (
            {"objective": BradleyTerry(), "optimiser": laurel.OptimiserSettings(schedule="linear", warmup_steps=10)},
            "uses",
        ),
    ],
)
def test_explain_refuses_what_the_fit_refuses(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    said = []
    for call in (laurel.explain, lambda recipe: laurel.fit_reward_model(**recipe, run=tmp_path / "run")):
        with pytest.raises((ConfigurationError, TaskError), match=message) as caught:
            call(fit(**changes))
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_the_three_runs_of_rlhf(tmp_path: Path) -> None:
    recipe = test_human_feedback.arguments(tmp_path / "rlhf", labels=Labels(pairs=20, mistake=0.1), pessimism=0.5)
    text = flat(recipe)
    parameters = recipe["policy"].parameter_count
    for wanted in (
        "gold reward test_human_feedback:gold: judges, and no policy ever learns from it",
        "clone learns from 24 tasks of 'asked'",
        "20 pairs of the clone's answers, judged by a teacher who knows the gold reward (mistake=0.1); at most 80",
        "2 reward models learn what was said of them",
        "paid by the mean of the 2 reward models of the second run, less 0.5 times their deviation",
        "both rewards judge 8 held-out prompts after every 4 steps",
        "best of 1, 4: 4 answers of the clone to each held-out prompt, 32 in all",
        f"1. clone: {tmp_path / 'rlhf' / 'clone'}",
        "4 prompts x 1 samples = 4, 3 steps",
        "about 16 prompts with 2 answers each",
        "held_out 0.2: about 4 of them",
        "at most 224 (a prompt with its answers: 14)",  # 6 of the prompt, twice 3 and an end
        "trunk, 2 times",
        "4 prompts x 4 samples = 16, 8 steps",
        f"{2 * 4 * parameters / 1024:.1f} KiB 2 reward models",
        "the clone, to measure the KL from",
    ):
        assert wanted in text, wanted
    assert not (tmp_path / "rlhf").exists()


def test_rlhf_is_not_explained_where_something_else_was_started(tmp_path: Path) -> None:
    recipe = test_human_feedback.arguments(tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps({"seed": 7}))
    with pytest.raises(ConfigurationError, match="was started with other settings"):
        laurel.explain(recipe)
