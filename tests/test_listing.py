"""What a recipe can name is listed whole, and each part says what it is and how it is set."""

from __future__ import annotations

import pytest

import laurel
from laurel.errors import ConfigurationError
from laurel.listing import first_sentence
from laurel.recipe import registries


def test_every_part_of_every_kind_is_listed_with_what_it_is() -> None:
    page = " ".join(str(laurel.parts()).split())
    for kind, registry in registries().items():
        assert kind in page
        for name, part in registry.items():
            assert f"{name} {first_sentence(part)}" in page
            assert len(first_sentence(part)) > 15, f"{kind} {name} does not say what it is"
    assert "reward (also held_out_reward, watched_reward, gold_reward)" in page


def test_a_kind_shows_settings_and_a_part_all_that_is_written() -> None:
    assert "tolerance=1e-06, marker=None" in str(laurel.parts("watched_reward"))
    page = str(laurel.parts("environment", "number_guessing"))
    assert page.startswith("environment: {name: number_guessing, ...}\n  low=1, high=9, turns=3")
    assert "    prompt        guess 1-9:\n    policy        5\n" in page  # an example stays as it was written
    assert "    seed: which hidden numbers are drawn." in page


def test_lines_are_joined_where_the_width_had_parted_them() -> None:
    text = "1 for the answer that most siblings give, 0 for any other; test-time reinforcement learning."
    assert max(map(len, str(laurel.parts("reward", "majority_vote")).splitlines())) <= 100
    assert text in str(laurel.parts("reward", "majority_vote"))


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [(("rewards",), "reward"), (("reward", "numeric"), "numeric_answer"), (("tasks", "json"), "jsonl")],
)
def test_what_is_not_there_names_the_nearest(asked: tuple[str, ...], nearest: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        laurel.parts(*asked)
    assert f"did you mean '{nearest}'?" in str(refused.value)
