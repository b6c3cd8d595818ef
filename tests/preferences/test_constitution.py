"""Constitutions from files and lists; which principle is drawn."""

from collections import Counter
from pathlib import Path

import pytest

from laurel.errors import ConfigurationError
from laurel.preferences import principles_of
from laurel.preferences.constitution import drawn_principle

TWO = ("Be brief.", "Be kind.")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "- Be brief.\n- Be kind.\n"),
        ("c.json", '["Be brief.", "Be kind."]'),
        ("c.txt", "# what counts\nBe brief.\n\n  Be kind.\n"),
    ],
)
def test_every_form_of_file_gives_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert principles_of(tmp_path / name) == principles_of(str(tmp_path / name)) == principles_of(list(TWO)) == TWO


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("c.yaml", "a: b", "holds no list"),
        ("c.yaml", "- [", "is broken"),
        ("c.json", "[1]", "principle 1 is 1"),
        ("c.json", "[" * 100_000, "is broken"),
        ("c.yaml", "[" * 2000, "is broken"),
        ("c.txt", "Be kind.\nBe kind.", "twice"),
        ("c.txt", "# nothing", "has no principles"),
    ],
)
def test_what_is_no_constitution_is_refused(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=why):
        principles_of(tmp_path / name)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        principles_of(tmp_path / "none.txt")


def test_a_principle_hangs_on_seed_and_key_alone_and_each_is_as_likely() -> None:
    drawn = [drawn_principle(TWO, 0, f"t{number}") for number in range(400)]
    assert drawn == [drawn_principle(TWO, 0, f"t{number}") for number in range(400)]
    assert drawn != [drawn_principle(TWO, 1, f"t{number}") for number in range(400)]
    assert 160 < Counter(drawn)["Be brief."] < 240  # four standard deviations
    assert drawn_principle(TWO, 0, "a", "b") == drawn_principle(list(TWO), 0, "a", "b")
