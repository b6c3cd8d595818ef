"""A constitution: principles that answers are judged and revised by (Bai et al. 2022, arXiv 2212.08073).

- Choose the answer that is more helpful to a beginner.          a YAML or JSON list,
- Choose the answer that admits what it does not know.

# a text file: one principle per line, blank lines and lines from "#" on left out
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from laurel.errors import ConfigurationError

HELPFUL_AND_HONEST = (
    "A good answer does what was asked, fully and correctly.",
    "A good answer says nothing untrue, and says so where it does not know.",
    "A good answer is likely to harm nobody.",
)
"""Where no principles are given. They are a start, not a recommendation: what is judged by them is what is learned."""

_LISTS = {".yaml", ".yml", ".json"}


def principles_of(source: str | Path | Sequence[str]) -> tuple[str, ...]:
    """The principles of a file (`.yaml`, `.yml`, `.json`, or text with one per line), or of a list.

    Raises:
        ConfigurationError: the file cannot be read, one is no text or blank, stands twice, or there is none.
    """
    where = f"The constitution {source}" if isinstance(source, str | Path) else "The constitution"
    found = _read(Path(source), where) if isinstance(source, str | Path) else list(source)
    kept: list[str] = []
    for number, principle in enumerate(found, start=1):
        if not isinstance(principle, str) or not principle.strip():
            raise ConfigurationError(
                f"{where}: principle {number} is {principle!r}, not a text.", hint="write each as one sentence."
            )
        if principle.strip() in kept:
            raise ConfigurationError(f"{where} has the principle {principle!r} twice.", hint="leave one of them out.")
        kept.append(principle.strip())
    if not kept:
        raise ConfigurationError(f"{where} has no principles.", hint="write at least one.")
    return tuple(kept)


def drawn_principle(principles: Sequence[str], seed: int, *key: str) -> str:
    """One of them, each as likely, by a hash of the seed and of what it is drawn for alone."""
    digest = hashlib.sha256(json.dumps([seed, *key]).encode()).digest()
    return principles[int.from_bytes(digest[:8], "big") % len(principles)]


def _read(path: Path, where: str) -> list[object]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{where} cannot be read: {error}.", hint="give a file, or a list.") from error
    if path.suffix not in _LISTS:
        lines = [line.strip() for line in text.splitlines()]
        return [line for line in lines if line and not line.startswith("#")]
    try:
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{where} is broken: {error}.", hint="write a list of texts.") from error
    if not isinstance(found, list):
        raise ConfigurationError(f"{where} holds no list.", hint="write a list of texts.")
    return found
