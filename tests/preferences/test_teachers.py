"""Teachers: each fault by itself against its stated chance, and a person at a terminal."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from laurel.errors import ConfigurationError
from laurel.preferences import Fault, Query, ScriptedTeacher, taught
from laurel.tasks import Task

MANY = 4000


def query(first: list[float], second: list[float]) -> Query:
    return Query(Task("t", "2+2?"), ("4", "5"), (first, second))


def share_of_first(teacher: ScriptedTeacher, asked: Query) -> float:
    answers = [teacher(asked) for _ in range(MANY)]
    assert set(answers) <= {0.0, 1.0}
    return sum(answer or 0.0 for answer in answers) / MANY


def near(share: float, chance: float) -> bool:
    """Within five standard deviations of a binomial share."""
    return abs(share - chance) < 5 * math.sqrt(chance * (1 - chance) / MANY)


def test_the_oracle_takes_the_greater_sum_and_ties_equal_ones() -> None:
    oracle = ScriptedTeacher()
    assert [oracle(query(*sides)) for sides in (([1, 2], [2.5]), ([0], [0.1]), ([1, 1], [2]))] == [1.0, 0.0, 0.5]


def test_a_rational_teacher_is_a_bradley_terry_model() -> None:
    teacher, asked = ScriptedTeacher(rationality=2.0), query([1.0], [0.5])
    assert teacher.probability(asked) == pytest.approx(1 / (1 + math.exp(-1)))
    assert near(share_of_first(teacher, asked), 1 / (1 + math.exp(-1)))
    assert near(share_of_first(ScriptedTeacher(rationality=0.0), asked), 0.5)
    assert ScriptedTeacher(rationality=1e6).probability(query([0.0], [1.0])) == 0.0  # no overflow


def test_a_short_sighted_teacher_remembers_the_end() -> None:
    asked = query([3.0, 0.0], [0.0, 2.0])  # sums 3 and 2; with a discount of 1/2: 1.5 and 2
    assert ScriptedTeacher()(asked) == 1.0
    assert ScriptedTeacher(discount=0.5)(asked) == 0.0
    gap = ScriptedTeacher(rationality=1.0, discount=0.5).probability(asked)
    assert gap == pytest.approx(1 / (1 + math.exp(0.5)))


def test_mistakes_turn_answers_around() -> None:
    assert near(share_of_first(ScriptedTeacher(mistake=0.1), query([1.0], [0.0])), 0.9)
    assert near(share_of_first(ScriptedTeacher(mistake=0.1), query([0.0], [1.0])), 0.1)


def test_skips_and_ties_read_the_undiscounted_sums() -> None:
    picky = ScriptedTeacher(skip_below=1.0, equal_within=0.25, discount=0.1)
    assert picky(query([0.5, 0.4], [0.9])) is None
    assert picky(query([1.0, 0.0], [0.9])) == 0.5
    assert picky(query([0.0, 2.0], [0.9])) == 1.0


def test_the_seed_fixes_the_answers_and_other_settings_do_not_move_the_draws() -> None:
    asked = [query([n % 3], [n % 2]) for n in range(50)]

    def answers(teacher: ScriptedTeacher) -> list[float | None]:
        return [teacher(one) for one in asked]

    noisy = ScriptedTeacher(rationality=1.0, seed=3)
    assert answers(noisy) == answers(replace(noisy))
    assert answers(replace(noisy)) != answers(replace(noisy, seed=4))
    skipping = answers(replace(noisy, skip_below=0.5))
    assert None in skipping
    same = zip(skipping, answers(replace(noisy)), strict=True)
    assert all(one == other for one, other in same if one is not None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rationality": -1.0}, "rationality must not be negative"),
        ({"discount": 0.0}, r"discount must lie in \(0, 1\]"),
        ({"mistake": 0.6}, r"mistake must lie in \[0, 0.5\]"),
        ({"equal_within": -0.1}, "equal_within must not be negative"),
    ],
)
def test_teachers_that_cannot_be(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ScriptedTeacher(**settings)  # type: ignore[arg-type]


def test_a_teacher_goes_on_where_it_was() -> None:
    asked = [query([n % 3], [n % 2]) for n in range(30)]
    whole, first, second = (ScriptedTeacher(rationality=1.0, mistake=0.2, seed=3) for _ in range(3))
    said = [whole(one) for one in asked]
    assert [first(one) for one in asked[:11]] == said[:11]
    second.load_state(first.state())
    assert [second(one) for one in asked[11:]] == said[11:]


def test_what_a_teacher_says_becomes_preferences() -> None:
    found = taught([query([1.0], [0.0]), query([0.0], [0.0]), query([0.0], [1.0])], ScriptedTeacher(), name="ours")
    assert [task.scores for task in found] == [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]  # type: ignore[attr-defined]
    assert [task.reference for task in found] == ["4", None, "5"] and found[0].id == "ours-1"
    some = taught([query([0.1], [0.0]), query([1.0], [0.0])], ScriptedTeacher(skip_below=0.5))
    assert len(some) == 1 and some.left_out.rows == {Fault.SKIPPED: (1,)}
    with pytest.raises(ConfigurationError, match="answered none of 1 queries"):
        taught([query([0.1], [0.0])], ScriptedTeacher(skip_below=0.5))
