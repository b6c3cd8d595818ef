"""Rows that the tests of this folder share, and where the real pairs are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("LAUREL_DATA", Path(__file__).parents[3] / "shared" / "data"))
HARMLESS = DATA / "hh-rlhf-harmless-test" / "test.jsonl.gz"

PAIR = {"prompt": "2+2?", "chosen": "4", "rejected": "5"}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def transcript(*turns: str) -> str:
    names = ("Human", "Assistant")
    return "".join(f"\n\n{names[index % 2]}: {turn}" for index, turn in enumerate(turns))


def write(directory: Path, *rows: Any, name: str = "set.jsonl") -> Path:
    path = directory / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path
