"""Values that look right to Python and are not: too large, not finite, null, none at all; and prompts told twice."""

from __future__ import annotations

from typing import Any

import pytest
from preference_rows import PAIR, assistant, transcript, user

from laurel import preferences
from laurel.errors import TaskError
from laurel.preferences import Fault

LARGE = 10**400
"""A whole number that JSON may hold, and no float."""
RANKED = {"prompt": "x", "answers": ["a", "b"], "r": [1, 2]}
RATED = {"prompt": "x", "answers": ["a", "b"], "ratings": [1, 5]}
STEPPED = {"prompt": "x", "completions": ["a", "b"], "labels": [1, 0]}

CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], Fault, str]] = [
    ("rankings", {"ranks": "r"}, RANKED, {"r": [LARGE, 1]}, Fault.TYPE, "not a number for each of 2 answers"),
    ("rankings", {"ranks": "r"}, RANKED, {"r": [float("inf"), 1]}, Fault.TYPE, "not a number"),
    ("rankings", {"ranks": "r"}, RANKED, {"answers": [], "r": []}, Fault.TYPE, "ranks 0 answers"),
    ("ratings", {"low": 1, "high": 5}, RATED, {"ratings": [LARGE, 1]}, Fault.TYPE, "not a number"),
    ("ratings", {"low": 1, "high": 5}, RATED, {"ratings": [-LARGE, 1]}, Fault.TYPE, "not a number"),
    ("ratings", {"low": 1, "high": 5}, RATED, {"answers": [], "ratings": []}, Fault.EMPTY, "there is no answer"),
    ("step_labels", {}, STEPPED, {"labels": [LARGE, 0]}, Fault.RANGE, "of a step does not lie in"),
    ("pairs", {}, PAIR, {"prompt": None}, Fault.PROMPT, "the prompt 'prompt' is null"),
]


@pytest.mark.parametrize(("name", "settings", "good", "wrong", "fault", "message"), CASES)
def test_they_are_left_out_and_named(
    name: str, settings: dict[str, Any], good: dict[str, Any], wrong: dict[str, Any], fault: Fault, message: str
) -> None:
    source, row = preferences.SOURCES[name], {**good, **wrong}
    found = source(rows=[good, row, good], **settings)
    assert len(found) == 2 and found.left_out.rows == {fault: (2,)}
    with pytest.raises(TaskError, match=f"row 2(.|\n)*{message}") as refused:
        source(rows=[good, row], strict=True, **settings)
    assert "What to do" in str(refused.value) and len(str(refused.value)) < 300


ASKED = transcript("hi", "yes?", "2+2?")


@pytest.mark.parametrize("prompt", [ASKED, f"{ASKED}\n\nAssistant:", ASKED.strip()])
def test_transcripts_beside_a_prompt_of_its_own_are_cut_where_it_ends(prompt: str) -> None:
    row = {"prompt": prompt, "chosen": f"{ASKED}\n\nAssistant: 4", "rejected": f"{ASKED}\n\nAssistant: 5"}
    (found,) = preferences.pairs(rows=[row], strict=True)
    assert (found.prompt, found.answers) == (prompt, (" 4", " 5"))
    (spoken,) = preferences.pairs(rows=[row], strict=True, conversation=True)
    assert spoken.answers == ("4", "5")


def test_a_single_question_may_stand_bare_beside_its_transcripts() -> None:
    row = {"prompt": "2+2?", "chosen": transcript("2+2?", "4"), "rejected": transcript("2+2?", "5")}
    (found,) = preferences.pairs(rows=[row], strict=True)
    assert (found.prompt, found.answers) == ("2+2?", (" 4", " 5"))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2+2?", "chosen": transcript("3+3?", "4"), "rejected": transcript("3+3?", "5")},
        {"prompt": "2+2?", "chosen": transcript("2+2?", "4"), "rejected": transcript("3+3?", "5")},
        {"prompt": "2+2?", "chosen": f"{ASKED}\n\nAssistant: 4", "rejected": f"{ASKED}\n\nAssistant: 5"},
        {"prompt": "2+2?", "chosen": [user("3"), assistant("4")], "rejected": [user("3"), assistant("5")]},
    ],
)
def test_a_prompt_that_is_not_the_one_of_the_sides_is_found(row: dict[str, Any]) -> None:
    found = preferences.pairs(rows=[PAIR, row])
    assert found.left_out.rows == {Fault.DIFFERENT_PROMPTS: (2,)}
    with pytest.raises(TaskError, match=r"its own column|the prompt's own column|part before"):
        preferences.pairs(rows=[PAIR, row], strict=True)
