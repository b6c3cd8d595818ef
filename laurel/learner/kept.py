"""What several learners keep in one checkpoint, each under names that begin alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Kept = TypeVar("Kept")


def below(prefix: str, kept: Mapping[str, Kept]) -> dict[str, Kept]:
    """What is kept under names that begin with the prefix, by the rest of its name."""
    return {name.removeprefix(prefix): one for name, one in kept.items() if name.startswith(prefix)}
