"""A run whose reward reads no label is judged by one that does, before, during and after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_resume_kinds import killed_and_resumed

import laurel
from laurel.errors import ConfigurationError
from laurel.recipe import component, rewards
from laurel.rewards import exact_match, majority_vote, random_reward, weighted
from laurel.runs import Run
from laurel.tasks import Task, TaskSet
from laurel.tree import Score

TASKS = TaskSet("tasks", tuple(Task(letter, f"{letter}>", letter) for letter in "ab"))
HELD = TaskSet("held", tuple(Task(letter, f"{letter}>", letter) for letter in "cd"))


def settings(**others: Any) -> dict[str, Any]:
    return {
        "policy": laurel.policy.tiny(alphabet="abcd>", hidden_size=16, layers=1, heads=2, context_length=8),
        "tasks": TASKS,
        "algorithm": laurel.rloo(),
        "reward": majority_vote(answer="text"),
        "limits": laurel.Limits(max_new_tokens=1),
        "steps": 2,
        "prompts_per_step": 2,
        "samples_per_prompt": 4,
        **others,
    }


def test_held_out_answers_are_judged_by_their_own_reward(tmp_path: Path) -> None:
    run = laurel.train(**settings(held_out=HELD, held_out_reward=exact_match(), run=tmp_path / "run"))
    with Run.open(run.directory) as kept:
        judged = kept.evaluations()[-1].metric.mean
    again = laurel.eval(tmp_path / "run", HELD)
    assert again.mean == judged
    right = [
        float(r.text == {t.id: t.reference for t in HELD}[tree.task_id]) for tree in again.trees for r in tree.rollouts
    ]
    scores = [r.outcome.score for tree in again.trees for r in tree.rollouts if r.outcome is not None]
    assert [score.value for score in scores if isinstance(score, Score)] == right
    with pytest.raises(ConfigurationError, match="against the others"):
        laurel.eval(tmp_path / "run", HELD, reward=majority_vote())


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"held_out": HELD}, "reward: it reads no label"),
        ({"held_out": HELD, "held_out_reward": random_reward()}, "held_out_reward: it reads no label"),
        ({"held_out_reward": exact_match()}, "'held_out_reward' would not be read: without held_out tasks"),
        ({"held_out": HELD, "held_out_reward": exact_match(), "watched_reward": majority_vote()}, "judges each alone"),
        ({"samples_per_prompt": 2, "algorithm": laurel.reinforce()}, "two agree or do not"),
        ({"algorithm": laurel.remax()}, "'remax' also grades the greedy answer"),
        ({"algorithm": laurel.vine_ppo()}, "'vine_ppo' also grades continuations"),
        (
            {
                "algorithm": laurel.clone(),
                "samples_per_prompt": None,
                "held_out": HELD,
                "held_out_reward": exact_match(),
            },
            "'reward' would not be read: 'clone' learns from none",
        ),
    ],
)
def test_what_does_not_fit_is_refused(others: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        laurel.train(**settings(**others, run=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_labels_beside_a_vote_are_labels(tmp_path: Path) -> None:
    mixed = weighted({"vote": (majority_vote(answer="text"), 1.0), "right": (exact_match(), 1.0)})
    laurel.train(**settings(reward=mixed, held_out=HELD, held_out_reward=exact_match(), run=tmp_path / "run"))


def test_check_and_explain_know_the_judge() -> None:
    arguments = settings(held_out=HELD, held_out_reward=exact_match())
    found = str(laurel.check(arguments))
    assert "tasks: not checked: the reward reads no label" in found
    assert "held_out: ok: 2 tasks" in found and "gold: 2 of 2 score full marks" in found
    told = str(laurel.explain(arguments))
    assert "held_out_reward" in told and "ExactMatch" in told and "MajorityVote" in told


def test_a_group_that_says_nothing_teaches_nothing(tmp_path: Path) -> None:
    """Every group is outside of the band, so the weights stay as they are, and nothing counts as a failure."""
    reward = laurel.rewards.semantic_entropy(answer="text", lowest=5.0)
    arguments = settings(reward=reward, run=tmp_path / "run")
    before = {name: tensor.clone() for name, tensor in arguments["policy"].tensors().items()}
    laurel.train(**arguments)
    assert all((tensor == before[name]).all() for name, tensor in arguments["policy"].tensors().items())
    with Run.open(tmp_path / "run") as run:
        assert run.failures()[0] == 0
        assert [metric.mean for _, metric in run.metric("left_out")] == [1.0, 1.0]


@pytest.mark.parametrize("frozen", [False, True])
def test_killed_and_resumed_certainty_is_the_same(frozen: bool, tmp_path: Path) -> None:
    """What is frozen is the policy at the start, which the checkpoint keeps although the method needs no reference."""

    def changes() -> dict[str, Any]:
        reward = laurel.policy.self_certainty(frozen=frozen)
        return {"reward": reward, "held_out_reward": exact_match(), "algorithm": laurel.rloo()}

    with killed_and_resumed(tmp_path, "before_update:4", changes) as run:
        assert len(run.metric("reward")) == 4
        checkpoint = run.load_checkpoint()
    assert checkpoint is not None and ("reference" in checkpoint.tensors) is frozen


def test_certainty_is_a_reward_of_recipes(tmp_path: Path) -> None:
    for name in ("self_certainty", "negative_entropy"):
        made = component("reward", rewards(), {"name": name, "frozen": True})
        assert made.frozen and made.measure == name
        arguments = settings(reward=made, held_out=HELD, held_out_reward=exact_match(), run=tmp_path / name)
        laurel.train(**arguments)
        with Run.open(tmp_path / name) as run:
            described = run.configuration["reward"]
        assert described == {"type": type(made).__name__, "frozen": True}
