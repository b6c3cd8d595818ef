"""Killed and resumed equals uninterrupted where a reward is recovered: its weights, its replay and its files too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_resume_kinds import killed_and_resumed

import laurel

RATES = laurel.OptimiserSettings(learning_rate=1e-2, schedule="cosine")


def recovering(name: str, **settings: Any) -> dict[str, Any]:
    return {
        "algorithm": getattr(laurel, name)(),
        "recovery": laurel.RecoverySettings(optimiser=RATES, updates=2, **settings),
    }


@pytest.mark.parametrize(
    ("name", "settings", "moment"),
    [
        ("gail", {"replay": 2}, "after_update:4"),
        ("gail", {"kind": "shared"}, "after_grading:3"),
        ("airl", {}, "after_record:4"),
        ("max_ent_irl", {}, "before_finish:4"),
    ],
)
def test_a_recovered_reward_is_killed_and_resumed(
    name: str, settings: dict[str, Any], moment: str, tmp_path: Path
) -> None:
    with killed_and_resumed(tmp_path, moment, lambda: recovering(name, **settings)) as run:
        assert [step for step, _ in run.metric("recovery/loss")] == [1, 2, 3, 4]
        checkpoint = run.load_checkpoint()
    assert checkpoint is not None and checkpoint.tensors["experience"]
    assert checkpoint.state["experience"]["replayed"] == ([3, 4] if "replay" in settings else [])
    saved = [
        {path.name: path.read_bytes() for path in (tmp_path / which / "model").iterdir()} for which in ("whole", "run")
    ]
    assert saved[0] == saved[1] and "recovered.json" in saved[0]
