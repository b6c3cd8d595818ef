"""Lengths counted for many tasks at once are those of each alone."""

from __future__ import annotations

import random
from typing import Any

import pytest

import laurel
from laurel import lengths
from laurel.errors import PolicyError, TaskError
from laurel.preferences import Fault, pairs
from laurel.preferences.left_out import BadRow
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


def judged(*digits: int) -> list[dict[str, str]]:
    """One pair for each number of digits in its prompt; the longer answer has two tokens and an end."""
    return [{"prompt": f"{'0' * count}>", "chosen": "1", "rejected": "22"} for count in digits]


def test_judged_answers_that_do_not_fit_are_left_out_by_the_number_of_their_row(policy: laurel.policy.Policy) -> None:
    rows = judged(3, 12, 13, 4, 20)
    tasks = pairs(rows=[{"prompt": "1>", "chosen": "1", "rejected": "1"}, *rows])
    usable = lengths.usable_answers(policy, tasks)
    assert [task.id for task in usable] == ["preferences-2", "preferences-3", "preferences-5"]  # 13 + 3 = 16 just fit
    assert isinstance(usable, type(tasks)) and usable.left_out.rows == {Fault.IDENTICAL: (1,), Fault.TOO_LONG: (4, 6)}
    said = lengths.newly_left_out({"tasks": tasks, "held_out": None}, {"tasks": usable, "held_out": None})
    assert said == ["tasks: 2 rows left out: too long for the policy's context (rows 4, 6)"]
    assert lengths.usable_answers(policy, usable) is usable


def test_a_strict_set_stops_at_the_first_that_does_not_fit(policy: laurel.policy.Policy) -> None:
    with pytest.raises(
        BadRow, match="Task preferences-2: prompt and answer have 17 tokens; the policy's context holds 16"
    ):
        lengths.usable_answers(policy, pairs(rows=judged(3, 13, 20), strict=True))


def test_where_nothing_is_left_or_no_row_can_be_left_out_the_tasks_are_named(policy: laurel.policy.Policy) -> None:
    tasks = pairs(rows=judged(13, 14))
    with pytest.raises(
        TaskError, match=r"No row of 'preferences' can be used, 2 rows left out: too long .*The first: "
    ):
        lengths.usable_answers(policy, tasks)
    with pytest.raises(TaskError, match=r"2 preferences are too long in 'plain': preferences-1 \(17 tokens\)"):
        lengths.usable_answers(policy, TaskSet("plain", tasks.tasks))


def test_rows_of_a_part_keep_their_numbers(policy: laurel.policy.Policy) -> None:
    training, held = pairs(rows=judged(3, 13, 4, 14, 5)).split(2)
    numbers = [lengths.usable_answers(policy, side).left_out.rows for side in (training, held)]  # type: ignore[attr-defined]
    assert sorted(row for rows in numbers for row in rows.get(Fault.TOO_LONG, ())) == [2, 4]
