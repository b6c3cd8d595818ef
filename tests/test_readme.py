"""The README names what there is."""

from __future__ import annotations

import re
from pathlib import Path

from laurel.algorithms import METHODS
from laurel.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_method_stands_in_the_table_in_order() -> None:
    assert re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE) == sorted(METHODS)


def test_every_command_that_is_named_exists() -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    named = set(re.findall(r"laurel (\w+)(?= [A-Zr])", README))
    assert named <= known


def test_every_link_leads_somewhere() -> None:
    for page in (README, *(path.read_text() for path in (ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)\)", page):
            assert (ROOT / target).exists() or (ROOT / "docs" / target).exists(), target
