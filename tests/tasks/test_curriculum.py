"""Which tasks come next: by hand, in frequency, and after going on from a state."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laurel.errors import ConfigurationError, TaskError
from laurel.metrics import Metric
from laurel.tasks import Curriculum, CurriculumCursor, Cursor, Task, TaskSet, walk

TASKS = TaskSet(
    "graded", tuple(Task(f"{level}-{n}", f"{level} {n}", "", {"hard": level}) for level in (1, 2, 5) for n in range(10))
)
LEVELS = Curriculum("hard", bar=0.5, window=4, rehearsal=0.2)
FRONTIER = Curriculum("hard", kind="frontier", window=10, floor=0.05)


def levels(tasks: list[Task]) -> Counter[int]:
    return Counter(task.data["hard"] for task in tasks)


def test_levels_open_one_by_one():
    cursor = CurriculumCursor(TASKS, LEVELS, seed=0)
    assert set(levels(cursor.next(40))) == {1}
    # Two of three is above the bar, but four answers are asked for; the third and fourth are wrong: two of four.
    assert cursor.learn([("1-0", 1.0), ("1-1", 1.0), ("1-2", 0.0)])["level"] == Metric(1, 1)
    said = cursor.learn([("1-3", 0.0)])
    assert said == {"solved/hard_1": Metric(0, 1), "level": Metric(2, 1)}
    assert cursor.weights == pytest.approx([0.2, 0.8, 0])
    # Only what was answered since level 2 opened counts for it, and the oldest answers are forgotten.
    for score in (0, 0, 0, 1, 0, 0, 0):
        assert cursor.learn([("2-0", float(score))])["level"] == Metric(2, 1)
    assert cursor.learn([("2-0", 1.0), ("1-0", 0.0), ("2-1", 1.0)])["level"] == Metric(5, 1)
    assert cursor.weights == pytest.approx([0.1, 0.1, 0.8])
    cursor.learn([("5-0", 1.0)] * 8)
    assert cursor.weights == pytest.approx([0.1, 0.1, 0.8])  # nothing is behind the last one


def test_what_counts_as_solved():
    cursor = CurriculumCursor(TASKS, Curriculum("hard", window=2, full=0.5), seed=0)
    assert cursor.learn([("1-0", 0.5), ("1-0", 0.49)])["solved/hard_1"] == Metric(1, 2)


def test_the_frontier_is_where_half_is_solved():
    cursor = CurriculumCursor(TASKS, FRONTIER, seed=0)
    assert cursor.weights == pytest.approx([1 / 3] * 3)
    # By hand, with one success and one failure more: p = 11/12, 1/2, 1/12, so p (1 - p) = 11/144, 1/4, 11/144.
    scores = [("1-0", 1.0)] * 10 + [("2-0", 1.0), ("2-1", 0.0)] * 5 + [("5-0", 0.0)] * 10
    assert "level" not in cursor.learn(scores)
    parts = [11 / 144 + 0.05, 0.25 + 0.05, 11 / 144 + 0.05]
    assert cursor.weights == pytest.approx([part / sum(parts) for part in parts])
    drawn = levels(cursor.next(4000))
    assert [drawn[level] / 4000 for level in (1, 2, 5)] == pytest.approx(cursor.weights, abs=0.03)


def test_values_of_a_frontier_may_be_names():
    tasks = TaskSet("subjects", tuple(Task(str(n), str(n), "", {"subject": "ab"[n % 2]}) for n in range(8)))
    assert CurriculumCursor(tasks, Curriculum("subject", kind="frontier"), seed=0).values == ["a", "b"]
    with pytest.raises(TaskError, match="'a' as 'subject', not a number"):
        CurriculumCursor(tasks, Curriculum("subject"), seed=0)


def test_within_a_level_every_task_comes_once_a_round():
    cursor = CurriculumCursor(TASKS, LEVELS, seed=3)
    assert Counter(task.id for task in cursor.next(20)) == {f"1-{n}": 2 for n in range(10)}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 2)), max_size=12), st.integers(0, 12), st.booleans())
def test_going_on_from_a_state_is_the_same_walk(steps: list[tuple[int, int]], cut: int, level: bool):
    curriculum = LEVELS if level else FRONTIER

    def taken(cursor: CurriculumCursor, steps: list[tuple[int, int]]) -> list[str]:
        seen = []
        for count, luck in steps:
            tasks = cursor.next(count)
            seen += [task.id for task in tasks]
            cursor.learn([(task.id, float((number + luck) % 3 > 0)) for number, task in enumerate(tasks)])
        return seen

    whole, first, second = (CurriculumCursor(TASKS, curriculum, seed=1) for _ in range(3))
    everything = taken(whole, steps)
    before = taken(first, steps[:cut])
    second.load_state(json.loads(json.dumps(first.state())))
    assert before + taken(second, steps[cut:]) == everything
    assert second.state() == whole.state()


def test_a_state_of_another_walk_is_refused():
    plain, cursor = Cursor(TASKS, seed=0), CurriculumCursor(TASKS, LEVELS, seed=0)
    with pytest.raises(TaskError, match="without a curriculum by 'hard'"):
        cursor.load_state(plain.state())
    with pytest.raises(TaskError, match="seed"):
        cursor.load_state(CurriculumCursor(TASKS, LEVELS, seed=1).state())
    assert type(walk(TASKS, None, seed=0)) is Cursor and isinstance(walk(TASKS, LEVELS, seed=0), CurriculumCursor)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"by": "length"}, "task 1-0 of 'graded' has None as 'length', not a number"),
        ({"by": "hard", "bar": 0}, "bar=0 is out of range"),
        ({"by": "hard", "rehearsal": 1}, "rehearsal=1"),
        ({"by": "hard", "window": 0}, "window=0"),
        ({"by": "hard", "kind": "frontier", "floor": 0}, "floor=0"),
        ({"by": "hard", "kind": "frontier", "bar": 0.5}, "'bar' would not be read by 'frontier'"),
        ({"by": "hard", "floor": 0.5}, "'floor' would not be read by 'levels'"),
    ],
)
def test_what_is_no_curriculum_is_refused(values: dict[str, object], message: str):
    with pytest.raises((ConfigurationError, TaskError), match=message):
        CurriculumCursor(TASKS, Curriculum(**values), seed=0)


@pytest.mark.parametrize("value", [None, True, [1], float("nan"), {"a": 1}])
def test_a_value_that_has_no_place_is_named(value: object):
    tasks = TaskSet("odd", (Task("a", "a", "", {"hard": 1}), Task("b", "b", "", {"hard": value})))
    with pytest.raises(TaskError, match="task b of 'odd'"):
        CurriculumCursor(tasks, LEVELS, seed=0)
