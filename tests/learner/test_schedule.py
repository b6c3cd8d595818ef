"""Learning-rate factors against values worked out by hand."""

import pytest

from laurel.errors import ConfigurationError
from laurel.learner.schedule import schedule_factor


def factors(schedule: str, count: int, warmup_steps: int = 0, total_steps: int | None = None) -> list[float]:
    return [
        schedule_factor(schedule, done, warmup_steps=warmup_steps, total_steps=total_steps) for done in range(count)
    ]


def test_constant_after_a_warm_up_of_four() -> None:
    assert factors("constant", 6, warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_linear_descends_to_zero_in_the_step_after_the_last() -> None:
    # W = 2, N = 6: x = (done - 2) / 4, so steps 3 to 6 have 1, 3/4, 1/2, 1/4 and a seventh would have 0.
    assert factors("linear", 8, warmup_steps=2, total_steps=6) == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]


def test_cosine_is_one_half_in_the_middle() -> None:
    # N = 4: (1 + cos(0)) / 2, (1 + cos(pi/4)) / 2, (1 + cos(pi/2)) / 2, (1 + cos(3pi/4)) / 2, then 0.
    expected = [1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0.0, 0.0]
    assert factors("cosine", 6, total_steps=4) == pytest.approx(expected, abs=1e-15)


def test_a_step_that_was_left_out_is_behind_the_run_all_the_same() -> None:
    # N = 8, the third and fourth step left out: the fifth has the rate that it would have had.
    def factor(done: int, left_out: int) -> float:
        return schedule_factor("linear", done, left_out=left_out, warmup_steps=0, total_steps=8)

    assert [factor(0, 0), factor(1, 0), factor(2, 2), factor(3, 2)] == [1.0, 7 / 8, 4 / 8, 3 / 8]
    assert factor(3, 9) == 0.0


def test_a_warm_up_counts_only_steps_that_were_taken() -> None:
    factors = [schedule_factor("linear", done, left_out=3, warmup_steps=2, total_steps=10) for done in range(4)]
    # Two steps of warm-up although three were left out before; then (done + 3 - 2) of 8 steps of the descent are gone.
    assert factors == [0.5, 1.0, 1 - 3 / 8, 1 - 4 / 8]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("total_steps", [None, 3])
def test_descending_needs_steps_to_descend_over(schedule: str, total_steps: int | None) -> None:
    with pytest.raises(ConfigurationError, match="steps"):
        schedule_factor(schedule, 3, warmup_steps=3, total_steps=total_steps)
