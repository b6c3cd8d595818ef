"""Distillation from start to end: a student reaches its teacher; what does not fit is refused before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import laurel
from laurel.algorithms import Demonstrated, Sampled
from laurel.environments import Conversation, Dialogue
from laurel.errors import ConfigurationError, PolicyError, TaskError
from laurel.objectives import Distillation, Divergence
from laurel.policy import Policy
from laurel.recipe import load as load_recipe
from laurel.runs import Run
from laurel.tasks import Task
from laurel.taught import check_teacher
from laurel.tree import Score, Source

ROWS = [{"question": f"{number:02d}>", "answer": str(number % 10)} for number in range(30)]
TASKS = laurel.tasks.from_iterable(ROWS)


def tiny(**changes: Any) -> Policy:
    settings = {"alphabet": "0123456789>", "hidden_size": 16, "layers": 1, "heads": 2, "context_length": 8, **changes}
    return laurel.policy.tiny(**settings)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a policy that was cloned on the answers until it knew them."""
    made, directory = tiny(seed=5), tmp_path_factory.mktemp("teacher")
    laurel.train(
        policy=made, tasks=TASKS, algorithm=laurel.clone(), steps=80, prompts_per_step=30, run=directory / "run",
        optimiser=laurel.OptimiserSettings(learning_rate=2e-2),
    )  # fmt: skip
    made.export(directory / "model")
    return directory / "model"


def distil(directory: Path, teacher: Policy | Path | None, **changes: Any) -> Run:
    arguments: dict[str, Any] = {
        "policy": tiny(),
        "teacher": teacher,
        "tasks": TASKS,
        "algorithm": laurel.distill(),
        "prompts_per_step": 10,
        "samples_per_prompt": 4,
        "steps": 3,
        "limits": laurel.Limits(max_new_tokens=2),
        "optimiser": laurel.OptimiserSettings(learning_rate=2e-2),
        "run": directory / "run",
    }
    return laurel.train(**{name: value for name, value in {**arguments, **changes}.items() if value is not None})


def right(run: Run, *steps: int) -> float:
    """The fraction of the samples of these steps that begin with the answer that the teacher was taught."""
    drawn = [(rollout.text, tree) for step in steps for tree in run.trees(step) for rollout in tree.rollouts]
    return float(np.mean([text[:1] == tree.segments[0].text[1] for text, tree in drawn if tree.segments[0].text]))


@pytest.mark.parametrize("form", ["forward", "reverse", "jensen_shannon"])
def test_a_student_reaches_its_teacher_by_its_own_samples(tmp_path: Path, teacher: Path, form: str) -> None:
    run = distil(tmp_path, teacher, algorithm=laurel.distill(divergence=form), steps=100)
    apart = [value.mean for _, value in run.metric("distillation/divergence")]
    assert np.mean(apart[-3:]) < 0.2 * np.mean(apart[:3])
    assert right(run, 1, 2) < 0.4 and right(run, 98, 99, 100) > 0.8
    (tree, *_) = run.trees(3)
    assert len(tree.rollouts) == 4 and tree.segments[1].policy_version == 2
    assert all(rollout.outcome and rollout.outcome.score == Score(0.0) for rollout in tree.rollouts)


def test_written_answers_in_place_of_samples(tmp_path: Path, teacher: Path) -> None:
    method = laurel.distill(divergence="forward", on_policy=False)
    run = distil(tmp_path, teacher, algorithm=method, samples_per_prompt=None, limits=None, steps=40)
    apart = [value.mean for _, value in run.metric("distillation/divergence")]
    assert np.mean(apart[-3:]) < 0.3 * np.mean(apart[:3])
    assert [rollout.text for rollout in run.trees(1)[0].rollouts] == [run.trees(1)[0].segments[0].text[1]]  # type: ignore[index]


def test_a_share_of_given_answers_beside_the_samples(tmp_path: Path, teacher: Path) -> None:
    method = laurel.distill(divergence="forward", given_share=0.4)
    run = distil(tmp_path, teacher, algorithm=method, steps=30)
    given = [metric for _, metric in run.metric("given")]
    assert sum(metric.sum for metric in given) / sum(metric.count for metric in given) == pytest.approx(0.4, abs=0.1)
    for step in (1, 2, 30):
        trees = run.trees(step)
        written = [tree for tree in trees if tree.segments[1].sampling is None]
        assert len(written) == given[step - 1].sum and len(trees) == 10
        assert all(tree.rollouts[0].text == tree.segments[0].text[1] for tree in written)
        assert all(len(tree.rollouts) == 4 for tree in trees if tree not in written)
    apart = [value.mean for _, value in run.metric("distillation/divergence")]
    assert np.mean(apart[-3:]) < 0.5 * np.mean(apart[:3])
    assert "o demonstrated for 0.4 of the prompts" in method.equation


def test_given_answers_need_references_and_no_environment(tmp_path: Path, teacher: Path) -> None:
    method = laurel.distill(given_share=0.4)
    bare = laurel.tasks.from_iterable([{"question": row["question"]} for row in ROWS], reference=None)
    with pytest.raises(TaskError, match="has no reference answer"):
        distil(tmp_path, teacher, algorithm=method, tasks=bare)
    with pytest.raises(ConfigurationError, match="no environment has answered those"):
        distil(tmp_path, teacher, algorithm=method, environment=laurel.environments.SingleTurn())
    with pytest.raises(ConfigurationError, match="'given_share' would not be read: all answers are given"):
        laurel.distill(on_policy=False, given_share=0.4)
    with pytest.raises(ConfigurationError, match="at least 0 and below 1"):
        laurel.distill(given_share=1.0)


def test_a_teacher_that_is_the_policy_teaches_nothing(tmp_path: Path) -> None:
    made = tiny()
    before = {name: tensor.clone() for name, tensor in made.tensors().items()}
    run = distil(tmp_path, made, policy=made, steps=2)
    (first, second) = [value.mean for _, value in run.metric("distillation/divergence")]
    assert first == 0 and second < 1e-6
    assert next(value.mean for _, value in run.metric("gradient_norm")) == 0
    assert all(torch.allclose(tensor, before[name], atol=1e-5) for name, tensor in made.tensors().items())


def test_a_run_goes_on_with_its_teacher_and_with_no_other(tmp_path: Path, teacher: Path) -> None:
    whole = distil(tmp_path / "whole", teacher, steps=4)
    distil(tmp_path / "cut", teacher, steps=2)
    resumed = distil(tmp_path / "cut", teacher, steps=4, resume=True)
    for name in ("distillation/divergence", "gradient_norm"):
        assert list(resumed.metric(name)) == list(whole.metric(name))
    tensors = resumed.load_checkpoint().tensors  # type: ignore[union-attr]
    assert "reference" not in tensors  # a teacher that lies on the disk is not written into every checkpoint
    laurel.policy.load(teacher).export(tmp_path / "other")
    other = laurel.policy.load(tmp_path / "other")
    with torch.no_grad():
        next(iter(other.trainable_parameters().values())).add_(0.1)
    other.export(teacher)
    with pytest.raises(ConfigurationError, match="teacher"):
        distil(tmp_path / "cut", teacher, steps=5, resume=True)
    laurel.policy.load(tmp_path / "other").export(teacher)


class Echo(Conversation):
    """Two turns: what the policy wrote first is said back to it."""

    def converse(self, task: Task, rollout_id: str) -> Dialogue:
        text = yield task.prompt
        yield f"{text[:1] or '0'}>"
        return 0.0


def test_every_turn_of_an_episode_is_taught_and_what_the_environment_says_is_not(tmp_path: Path) -> None:
    run = distil(
        tmp_path, tiny(context_length=12, seed=3), policy=tiny(context_length=12), environment=Echo(), steps=2,
        limits=laurel.Limits(max_new_tokens=2, max_turns=2),
    )  # fmt: skip
    answered = 0
    for tree, credit in zip(run.trees(1), run.credits(1), strict=True):
        answered += sum(segment.source is Source.ENVIRONMENT for segment in tree.segments)
        assert np.array_equal(credit.mask, tree.flat.policy) and (credit.advantages[credit.mask] == 1).all()
    assert answered > 0


def test_a_teacher_must_read_the_policys_tokens(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"reads other tokens than the policy tiny.*'a'"):
        distil(tmp_path, tiny(alphabet="0123456789>a"))
    with pytest.raises(PolicyError, match="reads 6 tokens"):
        distil(tmp_path, tiny(context_length=6))
    larger = tiny()
    larger.vocabulary_size += 1
    with pytest.raises(PolicyError, match="logits"):
        check_teacher(tiny(), larger)
    assert not (tmp_path / "run").exists()
    parts = {"policy": tiny(), "tasks": TASKS, "algorithm": laurel.distill(), "teacher": tiny(alphabet="0123456789>a")}
    checked = laurel.check(parts)
    assert not checked.passed and "teacher: WRONG: The teacher" in str(checked)


def test_a_teacher_stands_where_it_is_asked_for_and_nowhere_else(tmp_path: Path, teacher: Path) -> None:
    with pytest.raises(ConfigurationError, match="'distill' needs a teacher"):
        distil(tmp_path, None)
    with pytest.raises(ConfigurationError, match="'teacher' would not be read: 'clone' has none"):
        distil(tmp_path, teacher, algorithm=laurel.clone(), samples_per_prompt=None, limits=None)
    with pytest.raises(ConfigurationError, match="'reward' would not be read: 'distill' holds its samples against the"):
        distil(tmp_path, teacher, reward=laurel.rewards.exact_match())


def test_settings_reach_their_part() -> None:
    method = laurel.distill(divergence="jensen_shannon", mixture=0.25)
    assert method.objective == Distillation(Divergence("jensen_shannon", 0.25))
    assert method.divergence == Divergence("jensen_shannon", 0.25) and method.source == Sampled(taught=True)
    assert "m = 0.25 teacher(.|s_t) + 0.75 pi(.|s_t)" in method.equation
    assert laurel.distill(on_policy=False).source == Demonstrated()
    assert not laurel.grpo().needs_teacher and laurel.grpo(kl=0.1).divergence == Divergence()
    with pytest.raises(ConfigurationError, match="'mixture' would not be read"):
        laurel.distill(mixture=0.3)
    with pytest.raises(ConfigurationError, match="imitates a teacher"):
        laurel.audit(laurel.distill())


@pytest.mark.parametrize("form", ["forward", "reverse", "jensen_shannon, mixture: 0.7"])
def test_a_recipe_names_the_teacher_and_explain_counts_it(tmp_path: Path, teacher: Path, form: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    rows = [{"question": row["question"]} for row in ROWS]
    recipe.write_text(
        f"""
policy: {{name: tiny, alphabet: "0123456789>", hidden_size: 16, layers: 1, heads: 2, context_length: 8}}
teacher: {teacher}
tasks: {{name: from_iterable, rows: {rows}, reference: null}}
algorithm: {{name: distill, divergence: {form}}}
limits: {{max_new_tokens: 2}}
steps: 2
run: {tmp_path / "run"}
"""
    )
    account = " ".join(str(laurel.explain(recipe)).split())
    assert "the teacher, which never changes" in account and "KiB teacher" in account
    checked = laurel.check(recipe)
    assert checked.passed and "teacher: ok" in str(checked)
    run = laurel.train(**load_recipe(recipe))
    assert len(list(run.metric("distillation/divergence"))) == 2
