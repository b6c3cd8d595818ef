"""Splits share no prompt, the order is a permutation per epoch, and a cursor goes on where it stood."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import laurel.tasks
from laurel.errors import TaskError
from laurel.tasks import Cursor, Task, TaskSet, check_leak, leaks, normalised


def numbered(count, name="n"):
    return TaskSet(name, tuple(Task(f"{name}-{index}", f"what is {index}?", str(index)) for index in range(count)))


PROMPTS = st.lists(st.sampled_from(["a", "A ", "b", "c  d", "c d", "C\nD", "e", "f", "ｆ"]), min_size=4, max_size=30)


def of_prompts(prompts):
    return TaskSet("p", tuple(Task(str(index), prompt) for index, prompt in enumerate(prompts)))


def test_it_is_a_sequence():
    tasks = numbered(5)
    assert len(tasks) == 5 and tasks[-1].id == "n-4" and [task.id for task in tasks[1:3]] == ["n-1", "n-2"]
    assert isinstance(tasks[1:3], TaskSet) and tasks.by_id["n-3"] is tasks[3]
    with pytest.raises(TaskError, match="is empty"):
        tasks[5:]


def test_the_fingerprint_follows_the_content():
    assert numbered(5).fingerprint == numbered(5).fingerprint
    base = Task("a", "p", "r", {"x": 1})
    changed = [Task("b", "p", "r", {"x": 1}), Task("a", "q", "r", {"x": 1}), Task("a", "p", None, {"x": 1})]
    changed += [Task("a", "p", "r", {"x": 2}), Task("a", ({"role": "user", "content": "p"},), "r", {"x": 1})]
    assert len({TaskSet("s", (task,)).fingerprint for task in [base, *changed]}) == 6


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What  is\n2+2? ", "what is 2+2?", True),
        ("2+2", "2-2", False),
        ("ﬁve", "five", True),
        ("STRASSE", "straße", True),
        (({"role": "system", "content": "x"}, {"role": "user", "content": "Hi"}), "hi", True),
    ],
)
def test_when_prompts_are_the_same(one, other, same):
    assert (normalised(one) == normalised(other)) is same


def test_leaks_are_named():
    train, held_out = numbered(10), TaskSet("h", (Task("h-0", "WHAT is 3? "), Task("h-1", "new")))
    assert [(twin.id, task.id) for twin, task in leaks(train, held_out)] == [("n-3", "h-0")]
    with pytest.raises(TaskError, match="n-3 = h-0"):
        check_leak(train, held_out)
    with pytest.raises(TaskError, match="and 5 more"):
        check_leak(train, numbered(10, "m"))
    check_leak(train, held_out[1:])


def test_duplicates_are_counted():
    assert of_prompts(["a", "A ", "b", "a"]).duplicates == 2


@given(PROMPTS, st.integers(0, 5))
def test_a_split_is_a_partition_without_leaks(prompts, seed):
    tasks = of_prompts(prompts)
    distinct = len(prompts) - tasks.duplicates
    if distinct < 2:
        return
    try:
        train, held_out = tasks.split(1, seed=seed)
    except TaskError:
        raise AssertionError("one prompt can always be held out") from None
    assert not leaks(train, held_out)
    assert sorted([*train, *held_out], key=lambda task: int(task.id)) == list(tasks)


def test_split_sizes_and_independence_of_order():
    tasks = numbered(100)
    train, held_out = tasks.split(0.2, seed=3)
    assert (len(train), len(held_out)) == (80, 20)
    assert len(tasks.split(7)[1]) == 7
    turned = TaskSet("n", tuple(reversed(tasks.tasks)))
    assert set(turned.split(0.2, seed=3)[1].by_id) == set(held_out.by_id)
    assert set(tasks.split(0.2, seed=4)[1].by_id) != set(held_out.by_id)
    for size in (0, 100, 1.0, 0.001):
        with pytest.raises(TaskError, match="leaves one side empty"):
            tasks.split(size)


def test_every_epoch_is_another_permutation():
    tasks = numbered(20)
    cursor = tasks.cursor(1)
    epochs = [[task.id for task in cursor.next(20)] for _ in range(3)]
    assert all(sorted(epoch) == sorted(tasks.by_id) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[0] != [task.id for task in tasks.cursor(2).next(20)]


def test_the_order_is_the_same_for_ever():
    assert [task.id for task in numbered(6).cursor(0).next(7)] == ["n-4", "n-2", "n-0", "n-5", "n-1", "n-3", "n-1"]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 9), max_size=8), st.integers(0, 8), st.integers(1, 7))
def test_a_resumed_cursor_goes_on_where_it_stood(batches, stop, size):
    tasks = numbered(size)
    whole = tasks.cursor(5)
    expected = [task.id for count in batches for task in whole.next(count)]
    cursor, seen = tasks.cursor(5), []
    for index, count in enumerate(batches):
        if index == stop:
            state = json.loads(json.dumps(cursor.state()))
            cursor = Cursor(tasks, seed=5)
            cursor.load_state(state)
        seen += [task.id for task in cursor.next(count)]
    assert seen == expected


def test_a_cursor_of_other_tasks_is_refused():
    state = numbered(5).cursor(0).state()
    for tasks, seed, message in ((numbered(6), 0, "fingerprint"), (numbered(5), 1, "seed")):
        with pytest.raises(TaskError, match=message):
            tasks.cursor(seed).load_state(state)
    with pytest.raises(TaskError, match="position 9"):
        numbered(5).cursor(0).load_state({**state, "position": 9})


def test_a_run_records_what_the_set_is():
    assert numbered(5).description == {
        "type": "TaskSet",
        "name": "n",
        "tasks": 5,
        "fingerprint": numbered(5).fingerprint,
    }
    assert set(laurel.tasks.SOURCES) == {
        "formalisations",
        "from_iterable",
        "jsonl",
        "parquet",
        "reasoning_gym",
        "theorems",
    }
