"""Lengths counted for many tasks at once are those of each alone."""

from __future__ import annotations

import random
from typing import Any

import pytest

import laurel
from laurel import lengths
from laurel.errors import PolicyError, TaskError
from laurel.tasks import Task, TaskSet

TEMPLATE = "{% for m in messages %}{{ m.role[0] }}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"


@pytest.fixture
def policy() -> laurel.policy.Policy:
    return laurel.policy.tiny(alphabet="0123456789>usa", hidden_size=16, layers=1, heads=2, context_length=16)


def sets(prompts: list[Any]) -> TaskSet:
    return TaskSet("set", tuple(Task(f"{n}", prompt) for n, prompt in enumerate(prompts)))


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
    monkeypatch.setattr(lengths, "TASKS_PER_CHUNK", 7)
    for place in (0, 6, 7, 19):
        prompts = ["01>"] * 20
        prompts[place] = "0" * 16
        with pytest.raises(TaskError, match=rf"1 prompt is too long in 'set': {place} \(16 tokens\)"):
            lengths.check_prompts(policy, sets(prompts), 16)
        prompts[place] = "0" * 15
        lengths.check_prompts(policy, sets(prompts), 16)
        prompts[place] = "0?1"
        with pytest.raises(TaskError, match=rf"Task {place} of 'set'(.|\n)*no tokens: '\?'"):
            lengths.check_prompts(policy, sets(prompts), 16)


def test_a_conversation_needs_a_chat_template(policy: laurel.policy.Policy) -> None:
    conversation = ({"role": "user", "content": "1"},)
    with pytest.raises(PolicyError, match="no chat template"):
        policy.prompt_lengths(["1", conversation])  # type: ignore[list-item]
    with pytest.raises(TaskError, match=r"Task 1 of 'set': The prompt is a conversation"):
        lengths.check_prompts(policy, sets(["1", conversation]), 16)
