"""Lengths counted for many tasks at once are those of each alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import laurel
from laurel import preflight
from laurel.environments import NumberGuessing, SingleTurn
from laurel.errors import ConfigurationError, PolicyError, TaskError
from laurel.tasks import Task, TaskSet

TEMPLATE = "{% for m in messages %}{{ m.role[0] }}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"


@pytest.fixture
def policy() -> laurel.policy.Policy:
    return laurel.policy.tiny(alphabet="0123456789>usa", hidden_size=16, layers=1, heads=2, context_length=16)


def sets(prompts: list[Any], references: list[str | None] | None = None) -> TaskSet:
    gold = references or [None] * len(prompts)
    return TaskSet("set", tuple(Task(f"{n}", p, g) for n, (p, g) in enumerate(zip(prompts, gold, strict=True))))


def test_lengths_of_many_are_those_of_each(policy: laurel.policy.Policy) -> None:
    policy.tokenizer.chat_template = TEMPLATE
    generator = random.Random(0)
    prompts: list[Any] = []
    for _ in range(60):
        text = "".join(generator.choice("0123456789") for _ in range(generator.randint(1, 14)))
        prompts.append(({"role": "user", "content": text},) if generator.random() < 0.5 else text)
    assert policy.prompt_lengths(prompts) == [len(policy.encode_prompt(prompt)) for prompt in prompts]
    answers = ["1", "123", "0>9"]
    assert policy.answer_lengths(answers) == [len(policy.encode_answer(answer)) for answer in answers]


def test_a_long_prompt_is_found_in_whatever_chunk_it_stands(
    policy: laurel.policy.Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "TASKS_PER_CHUNK", 7)
    for place in (0, 6, 7, 19):
        prompts = ["01>"] * 20
        prompts[place] = "0" * 16
        with pytest.raises(TaskError, match=rf"1 prompt is too long in 'set': {place} \(16 tokens\)"):
            preflight.check_prompts(policy, sets(prompts), 16)
        prompts[place] = "0" * 15
        preflight.check_prompts(policy, sets(prompts), 16)
        prompts[place] = "0?1"
        with pytest.raises(TaskError, match=rf"Task {place} of 'set'(.|\n)*no tokens: '\?'"):
            preflight.check_prompts(policy, sets(prompts), 16)


def test_a_conversation_needs_a_chat_template(policy: laurel.policy.Policy) -> None:
    conversation = ({"role": "user", "content": "1"},)
    with pytest.raises(PolicyError, match="no chat template"):
        policy.prompt_lengths(["1", conversation])  # type: ignore[list-item]
    with pytest.raises(TaskError, match=r"Task 1 of 'set': The prompt is a conversation"):
        preflight.check_prompts(policy, sets(["1", conversation]), 16)


def test_a_prompt_on_both_sides_is_refused_where_prompts_are_the_tasks() -> None:
    for environment in (None, SingleTurn()):
        with pytest.raises(TaskError):
            preflight.check_splits(sets(["1>", "2>"]), TaskSet("other", (Task("x", "2>"),)), environment)
        preflight.check_splits(sets(["1>", "2>"]), TaskSet("other", (Task("0", "3>"),)), environment)


def test_games_that_share_their_prompt_are_told_apart_by_their_ids() -> None:
    game = NumberGuessing()
    preflight.check_splits(game.tasks(10), game.tasks(5, first=10), game)
    with pytest.raises(TaskError, match=r"2 tasks are in both .*: game-8, game-9"):
        preflight.check_splits(game.tasks(10), game.tasks(5, first=8), game)
    # The same number of a row in two files with different prompts is no leak.
    preflight.check_splits(sets(["1>"]), sets(["2>"]), game)


def test_a_bound_on_a_part_that_the_reward_does_not_have_is_refused(policy: laurel.policy.Policy) -> None:
    reward = laurel.rewards.weighted({"right": (laurel.rewards.exact_match(), 1.0)})
    algorithm = laurel.grpo(constraint=laurel.Budget("polite", at_least=0.5, rate=0.1))
    with pytest.raises(ConfigurationError, match=r"bounds 'polite', which is no part of the reward \(right\)"):
        laurel.train(policy=policy, tasks=sets(["1>"], ["1"]), reward=reward, algorithm=algorithm)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"algorithm": laurel.grpo(minibatches=3)}, "algorithm.minibatches"),
        ({"algorithm": laurel.ppo(), "critic": laurel.CriticSettings(minibatches=3)}, "critic.minibatches"),
    ],
)
def test_a_minibatch_without_a_prompt_is_refused_before_anything_is_drawn(
    policy: laurel.policy.Policy, changes: dict[str, Any], name: str, tmp_path: Path
) -> None:
    small: dict[str, Any] = {"policy": policy, "tasks": sets(["1>", "2>"]), "reward": laurel.rewards.exact_match()}
    with pytest.raises(ConfigurationError, match=rf"3 minibatches of 2 prompts per step(.|\n)*lower {name}"):
        laurel.train(**small, **changes, prompts_per_step=2, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
